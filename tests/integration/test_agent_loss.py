"""Machines that vanish, a server that is away or frozen, and tasks that start again elsewhere."""

import asyncio
import os
import signal
from datetime import timedelta
from functools import partial

import pytest

from clearflow._prefect import claims, runs
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.tasks import loss
from clearflow.words import lifecycle
from clearflow.words.lifecycle import Exit
from clearflow.words.models import SCHEDULED
from tests.chaos.proxy import Line, Proxy
from tests.support.agents import LOSING, client, opened
from tests.support.gates import closed, open_gate
from tests.support.waiting import wait_until, wait_until_async

SCRIPTS = True
FLOWS = LOSING | {"CLEARFLOW_WARM": "1"}


async def running(ask, folder, name="a", **job_variables):
    """A task that runs until it is told to end."""
    closed(folder / f"{name}.go")
    parameters = {"folder": str(folder), "name": name}
    run_id = await ask.enqueue_script("until_told", "q", parameters, **job_variables)
    await marker(folder / f"{name}.running")
    return run_id


async def marker(path):
    async def look():
        return path.exists()

    await wait_until_async(look, 60, what=path.name)


async def test_the_task_of_a_lost_machine_runs_again_elsewhere(site, ask, tmp_path):
    lost = site.agent("q", env=LOSING)
    run_id = await running(ask, tmp_path)
    (tmp_path / "a.running").unlink()
    behind = await ask.enqueue_script("completes", "q")
    lost.lose_power()
    taker = site.agent("q", env=LOSING)
    await marker(tmp_path / "a.running")
    assert await ask.status(behind) in {"queued", "completed"}
    open_gate(tmp_path / "a.go")
    run = await ask.ended(run_id)
    assert (run.state.type, run.note.agent, run.note.attempt) == ("COMPLETED", taker.name, 2)
    texts = [s.note.text for s in await ask.history(run_id)]
    assert f"lost: nothing was heard of {lost.name} for 5 s; waiting for attempt 2 of 3" in texts
    assert f"claimed by {taker.name}, attempt 2" in texts
    await ask.ended(behind)


async def test_the_last_attempt_ends_as_crashed_and_says_why(site, ask, tmp_path):
    lost = site.agent("q", env=LOSING)
    site.agent("other", env=LOSING)
    run_id = await running(ask, tmp_path, max_attempts=1)
    lost.lose_power()
    run = await ask.ended(run_id)
    assert run.state.type == "CRASHED"
    assert run.note.text == f"lost: nothing was heard of {lost.name} for 5 s (attempt 1 of 1)"


async def test_a_task_that_kills_every_supervisor_is_not_tried_for_ever(site, ask):
    site.agent("q", env=FLOWS)
    run_id = await ask.enqueue("endings.py:kills_its_supervisor", "q", max_attempts=2)
    run = await ask.ended(run_id)
    assert run.state.type == "CRASHED"
    assert run.note.text == "lost: its supervisor died (attempt 2 of 2)"
    names = [s.name for s in await ask.history(run_id)]
    assert names.count("Pending") == 2


async def test_a_flow_lost_between_two_tries_runs_again(site, ask, tmp_path):
    lost = site.agent("q", env=FLOWS)
    run_id = await ask.enqueue("features.py:waits_to_retry", "q", {"folder": str(tmp_path)})
    await ask.until(run_id, "retrying")
    lost.lose_power()
    site.agent("q", env=FLOWS)

    async def again():
        return (tmp_path / "starts").read_text() == "xx"

    await wait_until_async(again, 60, what="the second start")
    run = await ask.run(run_id)
    assert run.note.attempt == 2


async def test_a_task_aborted_while_its_machine_is_lost_ends_as_aborted(site, ask, tmp_path):
    lost = site.agent("q", env=LOSING)
    run_id = await running(ask, tmp_path)
    lost.lose_power()
    state = await claims.abort(ask.api, run_id, "ada")
    assert state is not None
    site.agent("other", env=LOSING)
    run = await ask.ended(run_id)
    assert run.state.type == "CANCELLED"
    assert "aborted by ada" in run.note.text


@pytest.mark.parametrize("mover", [False, True])
async def test_a_claim_that_nobody_follows_up_is_put_back(site, ask, mover):
    """An agent that died between its claim and the start, or somebody who moved the task."""
    run_id = await ask.enqueue_script("completes", "q")
    run = await ask.run(run_id)
    token = lifecycle.claim_token()
    write = (
        lifecycle.held(run, "ada", "moved", token)
        if mover
        else lifecycle.claimed(run, "a-ghost:0", token)
    )
    assert await claims.take(ask.api, run, write)
    site.agent("q", env=LOSING)
    ended = await ask.ended(run_id)
    assert ended.state.type == "COMPLETED"
    assert ended.note.attempt == (1 if mover else 2)
    back = next(s for s in (await ask.history(run_id))[1:] if s.type == SCHEDULED)
    assert back.place is not None
    assert run.place is not None
    assert back.place <= run.place


async def test_a_state_that_its_killed_supervisor_has_sent_still_counts(site, ask, tmp_path):
    """Killed while the server works on the end of the task: it has ended, and stays ended."""
    run_id = await ask.enqueue_script("completes", "q")
    run = await ask.run(run_id)
    token = lifecycle.claim_token()
    assert await claims.take(ask.api, run, lifecycle.claimed(run, "a-ghost:0", token))
    run = await ask.run(run_id)
    assert await runs.propose(ask.api, run_id, lifecycle.running(run.note))
    rundir = RunDir(tmp_path / token)
    rundir.write(Job(run_id, "t", "t", site.pool, "q", "a-ghost:0", str(run.note)))
    (rundir.path / "alive").touch()  # and nobody has the lock
    with rundir.writing():
        losing = asyncio.create_task(loss.lose_dead(ask.api, tmp_path, by="a-ghost:0"))
        early, _ = await asyncio.wait({losing}, timeout=0.5)
        assert not early, "it did not wait for what may be on its way"
        await runs.propose(ask.api, run_id, lifecycle.outcome(Exit(), run.note))
        assert await losing == []
    assert (await ask.run(run_id)).state.type == "COMPLETED"
    assert not rundir.path.exists()


async def test_a_claim_whose_settler_died_with_its_agent_is_lost_by_the_next_of_its_name(site, ask):
    """Killed between the record that it loses the task and the loss itself."""
    run_id = await ask.enqueue_script("completes", "q")
    run = await ask.run(run_id)
    token = lifecycle.claim_token()
    assert await claims.take(ask.api, run, lifecycle.claimed(run, "unlucky", token))
    assert await claims.settle(ask.api, run_id, token, "unlucky 1", timedelta(seconds=5))
    site.agent("q", name="unlucky", env=LOSING)
    ended = await ask.ended(run_id)
    assert (ended.state.type, ended.note.attempt) == ("COMPLETED", 2)


async def test_a_machine_that_slept_finds_its_task_taken_over_and_ends_its_own(site, ask, tmp_path):
    """A laptop is closed, its task runs elsewhere; opened again, it must not interfere."""
    sleeper = site.agent("q", env=LOSING)
    run_id = await running(ask, tmp_path)
    (tmp_path / "a.running").unlink()
    asleep = sleeper.processes()
    sleeper.signal(signal.SIGSTOP)
    for each in asleep:
        each.kill(signal.SIGSTOP)
    (old,) = [p for p in asleep if p.title == "cf-task"]

    taker = site.agent("q", env=LOSING)
    await marker(tmp_path / "a.running")
    for each in sleeper.processes():
        each.kill(signal.SIGCONT)
    sleeper.signal(signal.SIGCONT)
    wait_until(lambda: not os.path.exists(f"/proc/{old.pid}"), 60, what="the old task to be ended")
    assert await ask.status(run_id) == "running"
    open_gate(tmp_path / "a.go")
    run = await ask.ended(run_id)
    assert (run.state.type, run.note.agent, run.note.attempt) == ("COMPLETED", taker.name, 2)
    following = [await ask.ended(await ask.enqueue_script("completes", "q")) for _ in range(2)]
    assert {r.state.type for r in following} == {"COMPLETED"}


async def test_an_outcome_that_arrives_too_late_does_not_count(site, ask, tmp_path):
    """Sent in time, held up by the network until another agent has the task."""
    port = int(site.url.split(":")[2].split("/")[0])
    async with Proxy(port) as proxy:
        behind = {"PREFECT_API_URL": f"http://127.0.0.1:{proxy.port}/api"}
        first = site.agent("q", env=LOSING | behind, wait=False)
        await wait_until_async(lambda: said(first, " serves "), 60, what="the first agent")
        for number in (1, 2):
            closed(tmp_path / f"{number}.go")
        run_id = await ask.enqueue_script("numbered", "q", {"folder": str(tmp_path)})
        await marker(tmp_path / "1.started")
        await ask.until(run_id, "running")
        with proxy.cut(Line.HOLD):
            open_gate(tmp_path / "1.go")
            await marker(tmp_path / "1.over")
            second = site.agent("q", env=LOSING, wait=False)
            await marker(tmp_path / "2.started")
        # The first learns that the task is another's, and lets it be.
        await wait_until_async(lambda: said(first, ": gone"), 60, what="the first to let it be")
        run = await ask.run(run_id)
        assert (run.state.type, run.note.agent) == ("RUNNING", second.name)
        open_gate(tmp_path / "2.go")
        run = await ask.ended(run_id)
        assert (run.state.type, run.note.agent, run.note.attempt) == ("COMPLETED", second.name, 2)
        for agent in (first, second):
            agent.lose_power()


async def said(agent, text):
    return text in agent.said()


@pytest.fixture
def alone(fresh_server, clearflow_home, tmp_path, unique):
    """A site on a server of its own, which a test may stop."""
    with opened(
        fresh_server.url, fresh_server.env(), tmp_path, unique("pool"), scripts=True
    ) as site:
        yield site


async def counting(ask, tmp_path, seconds):
    """A task that prints a line and beats fifty times a second."""
    parameters = {"folder": str(tmp_path), "seconds": seconds}
    run_id = await ask.enqueue_script("counts", "q", parameters)
    await ask.until_printed(run_id, "line 20")
    return run_id


def written(tmp_path):
    """The beats so far."""
    return [line for file in tmp_path.glob("*.beats") for line in file.read_text().splitlines()]


async def beats(tmp_path, count):
    return len(written(tmp_path)) >= count


async def check_counted(ask, tmp_path, run_id, seconds):
    """That it ran once, whatever happened meanwhile, and its console is whole."""
    run = await ask.ended(run_id, timeout=100)
    assert (run.state.type, run.note.attempt) == ("COMPLETED", 1), await ask.report(run_id)
    assert len(list(tmp_path.glob("*.beats"))) == 1
    lines = [x for x in await ask.console(run_id, "console") if x.startswith("line ")]
    assert lines == [f"line {n}" for n in range(round(seconds / 0.02))]


@pytest.mark.timeout(240)
async def test_a_task_outlives_an_outage_of_the_server(alone, fresh_server, tmp_path):
    """Longer than silence; the task ends while the server is away."""
    async with client(alone) as ask:
        first = alone.agent("q", env=LOSING)
        second = alone.agent("q", "other", env=LOSING)
        run_id = await counting(ask, tmp_path, 6)
        fresh_server.kill()
        await wait_until_async(lambda: beats(tmp_path, 300), 60, what="its last beat")
        fresh_server.start()
        await check_counted(ask, tmp_path, run_id, 6)
        for _ in range(2):
            run = await ask.ended(await ask.enqueue_script("completes", "q"))
            assert run.status(ask.api.clock.now()) == "completed"
        assert (first.code, second.code) == (None, None)


@pytest.mark.timeout(240)
async def test_a_server_that_freezes_has_heard_of_nobody_and_nobody_is_lost(
    alone, fresh_server, tmp_path
):
    async with client(alone) as ask:
        alone.agent("q", env=LOSING)
        alone.agent("other", env=LOSING)
        run_id = await counting(ask, tmp_path, 16)
        for _ in range(2):
            os.kill(fresh_server.pid, signal.SIGSTOP)
            longer = 300 + len(written(tmp_path))  # six seconds of beats, longer than silence
            await wait_until_async(partial(beats, tmp_path, longer), 60, what="its beats")
            os.kill(fresh_server.pid, signal.SIGCONT)
            await ask.run(run_id)
        await check_counted(ask, tmp_path, run_id, 16)


async def test_attempts_are_counted_over_several_machines(site, ask, tmp_path):
    closed(tmp_path / "a.go")
    run_id = await ask.enqueue_script(
        "until_told", "q", {"folder": str(tmp_path), "name": "a"}, max_attempts=3
    )
    for attempt in (1, 2):
        agent = site.agent("q", env=LOSING)
        await marker(tmp_path / "a.running")
        (tmp_path / "a.running").unlink()
        assert (await ask.run(run_id)).note.attempt == attempt
        agent.lose_power()
    site.agent("q", env=LOSING)
    await marker(tmp_path / "a.running")
    open_gate(tmp_path / "a.go")
    run = await ask.ended(run_id)
    assert (run.state.type, run.note.attempt) == ("COMPLETED", 3)
    assert run.note.since is not None
    assert run.created is not None
    assert abs(run.note.since - run.created) < timedelta(seconds=3), "it waits since it was queued"
