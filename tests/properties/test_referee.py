"""Single traces, each of them about one precaution; without the precaution the referee objects.

Every trace is run twice: as the code stands, and with the precaution taken out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from clearflow._prefect import claims, runs, settling
from clearflow._prefect.http import Api
from clearflow.errors import NotFound
from clearflow.words import lifecycle, losing
from clearflow.words.admission import Admission
from clearflow.words.lifecycle import Exit, Standing, Taken, Write
from clearflow.words.models import RUNNING, Run, State
from tests.properties.server import TwinServer
from tests.properties.world import Actor, World

DONE = Exit(code=0)


def agent(world: World, number: int, *, length: int = 0) -> Actor:
    machine = world.machines[number]
    return world.start(machine.name, world.agent(machine, 0, DONE, length), machine)


def sweep(world: World) -> None:
    world.finish(world.start("sweeper", world.sweeper))


def is_lost(world: World, number: int) -> None:
    """A machine is cut off until its tasks are declared lost."""
    world.machines[number].cut = True
    world.pass_time(31)
    sweep(world)


# -- traces ----------------------------------------------------------------------------------


def a_late_take_gets_a_task_that_has_ended(world: World) -> None:
    late = agent(world, 0)
    world.until(late, "set_state")
    world.finish(agent(world, 1))
    world.finish(late)


def and_whoever_has_it_dies(world: World) -> None:
    late = agent(world, 0)
    world.until(late, "set_state")
    world.finish(agent(world, 1))
    world.step(late)
    world.kill_machine(world.machines[0])
    world.pass_time(31)
    sweep(world)


def a_late_take_gets_a_task_that_was_lost(world: World) -> None:
    late = agent(world, 0)
    world.until(late, "set_state")
    world.steps(agent(world, 1), 6)
    is_lost(world, 1)
    world.finish(late)


def a_machine_is_back_before_its_task_begins(world: World) -> None:
    late = agent(world, 0)
    world.steps(late, 4)
    is_lost(world, 0)
    agent(world, 1, length=3)
    world.steps(world.actors[-1], 9)
    world.machines[0].cut = False
    world.pass_time(1)
    world.finish(late)


def a_machine_that_nobody_hears_ends_its_task(world: World) -> None:
    unheard = agent(world, 0, length=1)
    world.until(unheard, "RUNNING")
    world.step(unheard)
    world.machines[0].alive = False  # It says nothing more, but goes on.
    world.pass_time(31)
    world.until(unheard, "COMPLETED")
    sweep(world)
    world.finish(unheard)
    world.machines[0].alive = True


def back_in_time(world: World, length: int, word: str) -> tuple[Actor, Actor]:
    """A machine is cut off for too long, and is back when a sweeper is about to say a word."""
    back = agent(world, 0, length=length)
    world.until(back, "RUNNING")
    world.step(back)
    world.machines[0].cut = True
    world.pass_time(31)
    sweeper = world.start("sweeper", world.sweeper)
    world.until(sweeper, word)
    world.machines[0].cut = False
    world.pass_time(1)
    return back, sweeper


def a_machine_is_back_while_its_task_is_declared_lost(world: World) -> None:
    back, sweeper = back_in_time(world, 1, "set_state")
    world.steps(back, 6)
    world.finish(sweeper)


def a_machine_is_back_before_its_task_is_declared_lost(world: World) -> None:
    _, sweeper = back_in_time(world, 9, "/input")
    world.finish(sweeper)
    agent(world, 1)
    world.finish(world.actors[-1])


def a_holder_is_slow_between_looking_and_writing(world: World) -> None:
    slow = agent(world, 0)
    world.until(slow, "RUNNING")
    world.step(slow)
    world.step(slow)
    world.step(slow, "slow")
    world.machines[0].alive = False
    world.pass_time(33)
    sweep(world)
    world.steps(agent(world, 1, length=3), 9)
    world.step(slow)
    world.step(slow)
    world.machines[0].alive = True


def a_mover_does_not_hear_that_its_task_is_back(world: World) -> None:
    mover = world.start("mover", world.mover(0, 0))
    world.until(mover, "moved")
    world.step(mover, "unheard")
    world.steps(agent(world, 0, length=3), 9)
    world.finish(mover)


def a_mover_is_slow(world: World) -> None:
    mover = world.start("mover", world.mover(0, 0))
    world.until(mover, "set_state")
    world.step(mover)
    world.pass_time(31)
    sweep(world)
    world.steps(agent(world, 0, length=3), 9)
    world.finish(mover)


def two_agents_take_two_tasks_under_a_limit_of_one(world: World) -> None:
    first = agent(world, 0, length=3)
    world.step(first)
    world.finish(world.start("mover", world.mover(1, 0)))
    agents = [first, agent(world, 1, length=3)]
    for each in agents:
        world.until(each, "set_state")
    for _ in range(12):
        for each in agents:
            world.step(each)


def a_task_is_aborted_while_it_is_moved_and_its_mover_dies(world: World) -> None:
    mover = world.start("mover", world.mover(0, 0))
    world.until(mover, "moved")
    world.finish(world.start("aborter", world.aborter(world.tasks[0])))
    world.kill(mover)
    world.late.clear()


def two_sweepers_of_one_name_find_the_same_task(world: World) -> None:
    world.steps(agent(world, 0, length=9), 9)
    world.machines[0].cut = True
    world.pass_time(31)
    first = world.start("sweeper", world.sweeper)
    second = world.start("sweeper", world.sweeper)
    world.until(first, "set_state")
    with suppress(LookupError):
        world.until(second, "set_state")
    world.step(first)
    world.finish(agent(world, 1))
    world.finish(second)


def two_people_queue_a_draft(world: World) -> None:
    world.finish(world.start("drafter", world.drafter(world.tasks[0])))
    first = world.start("queuer", world.queuer(world.tasks[0]))
    second = world.start("queuer", world.queuer(world.tasks[0]))
    world.step(first)
    world.step(second)
    world.finish(first)
    world.steps(agent(world, 0, length=3), 9)
    world.finish(second)


def a_task_is_aborted_by_somebody_who_saw_it_wait(world: World) -> None:
    aborter = world.start("aborter", world.aborter(world.tasks[0]))
    world.step(aborter)
    world.finish(agent(world, 0))
    world.finish(aborter)


# -- precautions, taken away -----------------------------------------------------------------

Patches = list[Any]


def every_take_is_good() -> Patches:
    async def confirm(api: Api, run_id: str, token: str) -> tuple[Taken, None]:
        await runs.history(api, run_id)
        return Taken.MINE, None

    return [mock.patch.object(claims, "confirm", confirm)]


def attempts_are_not_compared() -> Patches:
    original = lifecycle.after_take

    def after_take(history: Any, token: str) -> tuple[Taken, State | None]:
        taken, before = original(history, token)
        ended = before is not None and before.final
        return (taken if ended or taken is not Taken.RESTORE else Taken.MINE), before

    return [mock.patch.object(lifecycle, "after_take", after_take)]


def sweepers_put_nothing_back() -> Patches:
    def restored(history: Any, token: str) -> tuple[Taken, None]:
        return Taken.MINE, None

    return [mock.patch.object(lifecycle, "after_take", restored)]


def user_code_begins_blindly() -> Patches:
    async def begin(api: Api, run_id: str, note: Any, **rest: Any) -> Standing:
        accepted = await runs.propose(api, run_id, lifecycle.running(note))
        return Standing.MINE if accepted else Standing.GONE

    return [mock.patch.object(claims, "begin", begin)]


def everybody_has_the_right() -> Patches:
    async def settle(*args: Any, **rest: Any) -> bool:
        return True

    return [mock.patch.object(settling, "_settle", settle)]


def everybody_is_leased() -> Patches:
    original = settling.Right.__init__

    def init(
        self: Any,
        api: Api,
        run: str,
        token: str,
        by: str,
        stale_after: timedelta,
        leased: Any = None,
    ) -> None:
        always = (lambda: True) if leased else None
        original(self, api, run, token, by, stale_after, always)

    return [mock.patch.object(settling.Right, "__init__", init)]


def a_lease_is_enough() -> Patches:
    original = settling._settle

    async def settle(*args: Any, leased: bool) -> bool:
        return leased or await original(*args, leased=leased)

    return [mock.patch.object(settling, "_settle", settle)]


def silence_is_not_checked_again() -> Patches:
    original = claims.lose

    async def lose(*args: Any, still: Any = None, **rest: Any) -> State | None:
        return await original(*args, **rest)

    return [mock.patch.object(claims, "lose", lose)]


def the_right_lasts_for_ever() -> Patches:
    valid = property(lambda self: self._until is not None)
    return [mock.patch.object(settling.Right, "valid", valid)]


def what_was_not_heard_is_said_again() -> Patches:
    async def write(api: Api, run_id: str, write: Write, within: timedelta) -> State | None:
        with suppress(NotFound):
            return await runs.propose(api, run_id, write)
        return None

    return [mock.patch.object(settling, "write_once", write)]


def tasks_are_put_back_blindly() -> Patches:
    async def put_back(api: Api, run_id: str, write: Write) -> State | None:
        return await runs.propose(api, run_id, write)

    return [mock.patch.object(claims, "put_back", put_back)]


def only_started_tasks_count() -> Patches:
    def admission(limit: int | None, mine: str, active: list[Run]) -> Admission:
        started = [r for r in active if r.state is not None and r.state.type == RUNNING]
        full = limit is not None and len(started) >= limit
        return Admission.YIELD if full else Admission.KEEP

    return [mock.patch.object(claims, "admission", admission)]


def aborted_holds_are_not_looked_for() -> Patches:
    original = losing.is_lost

    def is_lost(run: Run, *args: Any) -> bool:
        return run.note.agent is not None and original(run, *args)

    return [mock.patch.object(losing, "is_lost", is_lost)]


def a_name_is_enough_to_settle() -> Patches:
    original = settling.Right.__init__

    def init(self: Any, api: Api, run_id: str, token: str, by: str, *rest: Any) -> None:
        original(self, api, run_id, token, by.split()[0], *rest)

    return [mock.patch.object(settling.Right, "__init__", init)]


def drafts_are_queued_blindly() -> Patches:
    async def requeue(api: Api, run: Run, write: Write, *, by: str) -> State | None:
        return await runs.propose(api, run.id, write)

    return [mock.patch.object(claims, "requeue", requeue)]


def waiting_tasks_are_cancelled_blindly() -> Patches:
    async def abort(api: Api, run_id: str, by: str) -> None:
        write = lifecycle.abort(await runs.read(api, run_id), by, api.clock.now())
        if write is not None:
            await runs.propose(api, run_id, write)

    return [mock.patch.object(claims, "abort", abort)]


CASES: list[tuple[Callable[[World], None], Callable[[], Patches], dict[str, int]]] = [
    (a_late_take_gets_a_task_that_has_ended, every_take_is_good, {}),
    (and_whoever_has_it_dies, sweepers_put_nothing_back, {}),
    (a_late_take_gets_a_task_that_was_lost, attempts_are_not_compared, {}),
    (a_machine_is_back_before_its_task_begins, user_code_begins_blindly, {}),
    (a_machine_that_nobody_hears_ends_its_task, everybody_is_leased, {}),
    (a_machine_that_nobody_hears_ends_its_task, everybody_has_the_right, {}),
    (a_machine_is_back_while_its_task_is_declared_lost, a_lease_is_enough, {}),
    (a_machine_is_back_before_its_task_is_declared_lost, silence_is_not_checked_again, {}),
    (a_holder_is_slow_between_looking_and_writing, the_right_lasts_for_ever, {}),
    (a_mover_does_not_hear_that_its_task_is_back, what_was_not_heard_is_said_again, {}),
    (a_mover_is_slow, tasks_are_put_back_blindly, {}),
    (two_agents_take_two_tasks_under_a_limit_of_one, only_started_tasks_count, {"limit": 1}),
    (a_task_is_aborted_while_it_is_moved_and_its_mover_dies, aborted_holds_are_not_looked_for, {}),
    (two_sweepers_of_one_name_find_the_same_task, a_name_is_enough_to_settle, {}),
    (two_people_queue_a_draft, drafts_are_queued_blindly, {}),
    (a_task_is_aborted_by_somebody_who_saw_it_wait, waiting_tasks_are_cancelled_blindly, {}),
]


def _world(twin: TwinServer, limit: int | None) -> World:
    return World(twin, tasks=1 if limit is None else 2, agents=2, limit=limit)


@contextmanager
def without(precaution: Callable[[], Patches]) -> Iterator[None]:
    with ExitStack() as stack:
        for patch in precaution():
            stack.enter_context(patch)
        yield


def play(twin: TwinServer, trace: Callable[[World], None], limit: int | None = None) -> None:
    world = _world(twin, limit)
    try:
        trace(world)
        world.settle()
    finally:
        world.close()


@pytest.mark.parametrize(
    ("trace", "precaution", "options"),
    CASES,
    ids=[f"{trace.__name__}: {precaution.__name__}" for trace, precaution, _ in CASES],
)
def test_the_referee_objects(
    twin: TwinServer,
    trace: Callable[[World], None],
    precaution: Callable[[], Patches],
    options: dict[str, int],
) -> None:
    play(twin, trace, **options)
    with without(precaution), pytest.raises(AssertionError):
        play(twin, trace, **options)
