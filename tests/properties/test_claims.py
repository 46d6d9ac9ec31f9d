"""Claims, one behaviour at a time, against Prefect's own orchestration."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from clearflow._prefect import claims, runs, settling
from clearflow._prefect.http import Api
from clearflow.tasks import loss
from clearflow.words import lifecycle, losing
from clearflow.words.lifecycle import Exit, Standing, Taken, Write
from clearflow.words.models import Run, State
from clearflow.words.notes import Note
from tests.properties.server import POOL, RealServer
from tests.properties.world import SILENCE, World

DONE = Exit(code=0)


@pytest.fixture
def world(real: RealServer) -> Iterator[World]:
    world = World(real, tasks=3, agents=2)
    yield world
    world.close()


@pytest.fixture
def api(real: RealServer) -> Iterator[Api]:
    api = real.api()
    yield api
    real.run(api.close())


def texts(world: World, task: int = 0) -> list[str]:
    return [s.note.text for s in world.server.states()[world.tasks[task]]]


def last(world: World, task: int = 0) -> State:
    return world.server.states()[world.tasks[task]][-1]


def read(world: World, api: Api, task: int = 0) -> Run:
    return world.server.run(runs.read(api, world.tasks[task]))


def claimed(world: World, api: Api, token: str = "ours") -> Note:
    """A task in the hand of box:0."""
    run = read(world, api)
    write = lifecycle.claimed(run, "box:0", token)
    assert world.server.run(claims.take(api, run, write))
    return write.note


HELD: dict[str, Any] = {"by": "box:0/ours", "leased": lambda: True, "stale_after": SILENCE}


def test_from_the_line_to_the_end(world: World) -> None:
    machine = world.machines[0]
    world.finish(world.start("box:0", world.agent(machine, 0, DONE, 1), machine))
    assert texts(world) == [
        "queued by ada",
        "claimed by box:0",
        "running on box:0",
        "exit code 0",
    ]


def test_a_take_whose_answer_is_lost_is_ours(world: World) -> None:
    machine = world.machines[0]
    agent = world.start("box:0", world.agent(machine, 0, DONE, 0), machine)
    world.until(agent, "set_state")
    world.step(agent, "unheard")
    world.finish(agent)
    assert texts(world)[1:] == ["claimed by box:0", "running on box:0", "exit code 0"]


def test_a_take_whose_answer_is_lost_and_that_is_aborted_then_is_still_ours(world: World) -> None:
    machine = world.machines[0]
    agent = world.start("box:0", world.agent(machine, 0, DONE, 0), machine)
    world.until(agent, "set_state")
    world.step(agent, "unheard")
    world.finish(world.start("aborter", world.aborter(world.tasks[0])))
    world.finish(agent)
    assert last(world).name == "Cancelled"
    assert last(world).note.text.startswith("aborted by eve")


def test_every_answer_of_a_task_s_life_may_be_lost(world: World) -> None:
    machine = world.machines[0]
    agent = world.start("box:0", world.agent(machine, 0, DONE, 1), machine)
    for _ in range(60):
        world.step(agent, "unheard")
        world.steps(agent, 2)
    assert agent.done
    assert texts(world)[1:] == ["claimed by box:0", "running on box:0", "exit code 0"]


def test_an_abort_before_the_start_wins(world: World, api: Api) -> None:
    note = claimed(world, api)
    world.server.run(claims.abort(api, world.tasks[0], "eve"))
    begun = world.server.run(claims.begin(api, world.tasks[0], note, **HELD))
    assert begun is Standing.ABORTED
    end = lifecycle.outcome(DONE, note)
    state = world.server.run(claims.finish(api, world.tasks[0], end, token="ours", **HELD))
    assert state is not None
    assert (state.name, state.note.by) == ("Cancelled", "eve")


@pytest.mark.parametrize(("moment", "length"), [("RUNNING", 3), ("COMPLETED", 0)])
def test_an_abort_in_the_moment_of_a_write_wins(world: World, moment: str, length: int) -> None:
    machine = world.machines[0]
    agent = world.start("box:0", world.agent(machine, 0, DONE, length), machine)
    world.until(agent, moment)
    world.finish(world.start("aborter", world.aborter(world.tasks[0])))
    world.finish(agent)
    assert ("running on box:0" in texts(world)) == (moment == "COMPLETED")
    assert last(world).name == "Cancelled"


def test_a_cancellation_from_the_ui_ends_with_a_name(world: World) -> None:
    machine = world.machines[0]
    agent = world.start("box:0", world.agent(machine, 0, DONE, 3), machine)
    world.until(agent, "RUNNING")
    world.step(agent)
    world.finish(world.start("canceller", world.canceller(world.tasks[0])))
    world.finish(agent)
    assert last(world).note.text == "aborted by the Prefect UI"
    assert last(world).note.agent == "box:0"


def test_a_waiting_task_is_aborted_with_a_name(world: World, api: Api) -> None:
    state = world.server.run(claims.abort(api, world.tasks[0], "eve"))
    assert state is not None
    assert (state.name, state.note.by, state.note.claim) == ("Cancelled", "eve", None)


def test_there_is_nothing_to_abort_at_the_end(world: World, api: Api) -> None:
    world.server.run(claims.abort(api, world.tasks[0], "eve"))
    assert world.server.run(claims.abort(api, world.tasks[0], "bob")) is None


def test_a_draft_is_aborted(world: World, api: Api) -> None:
    world.finish(world.start("drafter", world.drafter(world.tasks[0])))
    state = world.server.run(claims.abort(api, world.tasks[0], "eve"))
    assert state is not None
    assert state.name == "Cancelled"


def test_what_was_taken_by_mistake_is_put_back(world: World, api: Api) -> None:
    stale = read(world, api)
    machine = world.machines[0]
    world.finish(world.start("box:0", world.agent(machine, 0, DONE, 0), machine))
    ended = last(world)
    write = lifecycle.claimed(stale, "box:1", "late")
    assert world.server.run(claims.take(api, stale, write))
    taken, _ = world.server.run(claims.confirm(api, stale.id, "late"))
    assert taken is Taken.RESTORE
    assert (last(world).name, last(world).message) == (ended.name, ended.message)


def test_one_request_holds_a_task_that_waits(world: World, api: Api) -> None:
    run = read(world, api)
    before = api.requests
    taken, place = world.server.run(
        claims.seize(api, run, lifecycle.held(run, "bob", "moving", "b0"))
    )
    assert (taken, place) == (True, run.place)
    assert api.requests == before + 1


def test_a_hold_of_a_task_that_has_ended_since_it_was_read_is_none(world: World, api: Api) -> None:
    stale = read(world, api)
    machine = world.machines[0]
    world.finish(world.start("box:0", world.agent(machine, 0, DONE, 0), machine))
    ended = last(world)
    assert world.server.run(claims.hold(api, stale, "bob", "moving")) is None
    assert (last(world).name, last(world).message) == (ended.name, ended.message)


def test_a_hold_counts_the_attempt_that_was_lost_since_the_task_was_read(
    world: World, api: Api
) -> None:
    stale = read(world, api)
    claimed(world, api)
    world.machines[0].alive = False
    world.pass_time(31)
    world.finish(world.start("sweeper", world.sweeper))
    assert last(world).note.attempt == 2
    assert world.server.run(claims.hold(api, stale, "bob", "moving")) is None
    assert (last(world).name, last(world).note.attempt) == ("Queued", 2)


def test_a_hold_that_is_put_back_says_so(world: World, api: Api) -> None:
    run = read(world, api, 1)
    note = world.server.run(claims.hold(api, run, "bob", "moving"))
    assert note is not None
    place = world.now() - timedelta(minutes=1)
    back = lifecycle.returned(note, place, "moved by bob")
    state = world.server.run(claims.put_back(api, run.id, back))
    assert state is not None
    assert state.place == place
    assert world.line()[0] == run.id
    # A second time nothing is written, and the first time is found.
    again = world.server.run(claims.put_back(api, run.id, back))
    assert again is not None
    assert again.id == state.id


def test_a_hold_that_was_taken_over_is_not_put_back(world: World, api: Api) -> None:
    run = read(world, api)
    note = world.server.run(claims.hold(api, run, "bob", "moving"))
    assert note is not None
    world.pass_time(31)
    world.finish(world.start("sweeper", world.sweeper))
    back = lifecycle.returned(note, world.now(), "moved by bob")
    assert world.server.run(claims.put_back(api, run.id, back)) is None
    assert texts(world)[-1] == "put back: its mover went away"


def test_a_mover_who_took_long_still_puts_back_what_nobody_has_taken_over(
    world: World, api: Api
) -> None:
    run = read(world, api)
    note = world.server.run(claims.hold(api, run, "bob", "moving"))
    assert note is not None
    world.pass_time(40)
    back = lifecycle.returned(note, world.now(), "moved by bob")
    assert world.server.run(claims.put_back(api, run.id, back)) is not None


def test_a_task_that_is_aborted_while_it_is_moved_ends(world: World, api: Api) -> None:
    run = read(world, api)
    note = world.server.run(claims.hold(api, run, "bob", "moving"))
    assert note is not None
    world.server.run(claims.abort(api, run.id, "eve"))
    assert last(world).name == "Cancelling"
    state = world.server.run(
        claims.put_back(api, run.id, lifecycle.returned(note, None, "moved by bob"))
    )
    assert state is not None
    assert (state.name, state.note.by) == ("Cancelled", "eve")


def test_a_lost_task_is_due_though_others_are_planned_for_later(world: World, api: Api) -> None:
    for task in (1, 2):
        later = lifecycle.queued(Note("planned for later"), world.now() + timedelta(days=1))
        world.server.run(runs.propose(api, world.tasks[task], later))
    claimed(world, api)
    world.machines[0].alive = False
    world.pass_time(31)
    world.finish(world.start("sweeper", world.sweeper))
    place = last(world).place
    assert place is not None
    assert place < world.now()


def test_a_lost_task_stands_in_front(world: World, api: Api) -> None:
    claimed(world, api)
    world.machines[0].alive = False
    world.pass_time(31)
    world.finish(world.start("sweeper", world.sweeper))
    assert world.line()[0] == world.tasks[0]
    assert last(world).note.attempt == 2


def test_a_lost_flow_with_retries_is_offered_again(world: World, api: Api) -> None:
    policy = {"retries": 1, "retry_delay": 0}
    world.server.run(runs.patch(api, world.tasks[0], empirical_policy=policy))
    note = claimed(world, api)
    world.server.run(claims.begin(api, world.tasks[0], note, **HELD))
    failed = Write("FAILED", "Failed", note.but("boom"))
    assert world.server.run(runs.propose(api, world.tasks[0], failed)) is None
    between = read(world, api)
    assert between.retrying_in_process
    active = world.server.run(loss.active_runs(api, POOL))
    assert [r.id for r in active] == [between.id]
    world.pass_time(31)
    assert losing.is_lost(between, {"box:0": None}, world.now(), SILENCE)
    lost = claims.lose(api, between, "silent", by="sweeper", max_attempts=2, stale_after=SILENCE)
    assert world.server.run(lost) is not None
    machine = world.machines[1]
    world.finish(world.start("box:1", world.agent(machine, 0, DONE, 0), machine))
    assert last(world).name == "Completed"


def test_a_holder_that_was_only_suspected_need_not_wait(world: World, api: Api) -> None:
    note = claimed(world, api)
    run = read(world, api)

    async def still(fresh: Run) -> bool:
        return False

    lost = claims.lose(
        api, run, "silent", by="sweeper", max_attempts=2, stale_after=SILENCE, still=still
    )
    assert world.server.run(lost) is None
    begun = world.server.run(claims.begin(api, run.id, note, **HELD))
    assert begun is Standing.MINE


def test_the_right_goes_to_one_and_then_to_the_next(world: World, api: Api) -> None:
    task = world.tasks[0]

    def settle(by: str) -> bool:
        return world.server.run(settling.settle(api, task, "ours", by, SILENCE))

    assert settle("one")
    assert settle("one")
    assert not settle("other")
    world.pass_time(16)
    # Renewed in time, it lasts on.
    assert settle("one")
    world.pass_time(16)
    assert not settle("other")
    world.pass_time(15)
    assert settle("other")
    assert not settle("one")


def test_a_deleted_task_is_nobody_s(world: World, api: Api) -> None:
    note = claimed(world, api)
    task = world.tasks[0]
    run = read(world, api)
    world.server.run(runs.delete(api, task))
    end = lifecycle.outcome(DONE, note)
    unheard = {**HELD, "leased": lambda: False}
    for held in (HELD, unheard):
        assert world.server.run(claims.finish(api, task, end, token="ours", **held)) is None
    assert world.server.run(claims.begin(api, task, note, **HELD)) is Standing.GONE
    back = lifecycle.returned(note, None, "waits")
    assert world.server.run(claims.put_back(api, task, back)) is None
    lost = claims.lose(api, run, "silent", by="sweeper", max_attempts=2, stale_after=SILENCE)
    assert world.server.run(lost) is None


def test_two_people_queue_a_draft_and_one_does(world: World, api: Api) -> None:
    world.finish(world.start("drafter", world.drafter(world.tasks[0])))
    draft = read(world, api)
    write = lifecycle.enqueued("bob", world.now())
    assert world.server.run(claims.requeue(api, draft, write, by="bob")) is not None
    assert world.server.run(claims.requeue(api, draft, write, by="eve")) is None
    assert last(world).name == "Queued"


def test_a_draft_is_queued_once_though_the_answer_is_lost(world: World) -> None:
    world.finish(world.start("drafter", world.drafter(world.tasks[0])))
    queuer = world.start("queuer", world.queuer(world.tasks[0]))
    world.until(queuer, "queued by bob")
    world.step(queuer, "unheard")
    machine = world.machines[0]
    for _ in range(3):
        world.finish(world.start("box:0", world.agent(machine, 0, DONE, 0), machine))
    world.finish(queuer)
    assert last(world).name == "Completed"
    assert texts(world).count("queued by bob") == 1


@pytest.mark.parametrize("seconds", [0.02, -0.02])
def test_states_stamped_in_the_wrong_order_do_not_cost_a_claim(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Two servers on one database, with clocks a little apart."""
    run = read(world, api)
    note = world.server.run(claims.hold(api, run, "bob", "moving"))
    assert note is not None
    world.pass_time(1)
    world.server.clock.ahead = seconds
    back = lifecycle.returned(note, None, "moved by bob")
    world.server.run(claims.put_back(api, run.id, back))
    world.server.clock.ahead = 0.0
    fresh = read(world, api)
    write = lifecycle.claimed(fresh, "box:0", "ours")
    assert world.server.run(claims.take(api, fresh, write))
    taken, _ = world.server.run(claims.confirm(api, run.id, "ours"))
    assert taken is Taken.MINE
    assert world.server.run(claims.standing(api, run.id, "ours"))[0] is Standing.MINE
