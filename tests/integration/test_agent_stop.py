"""Pausing, draining, stopping, killing and restarting an agent; what becomes of its tasks."""

import os
import signal

import pytest

from clearflow import agents
from clearflow.agents import Wish
from tests.support.agents import processes_with
from tests.support.gates import closed, open_gate
from tests.support.waiting import wait_until, wait_until_async

SCRIPTS = True


async def running(ask, folder, name="a", queue="q"):
    """A task that runs until it is told to end."""
    closed(folder / f"{name}.go")
    parameters = {"folder": str(folder), "name": name}
    run_id = await ask.enqueue_script("until_told", queue, parameters, name=name)

    async def look():
        return (folder / f"{name}.running").exists()

    await wait_until_async(look, 60, what=f"{name} to run")
    return run_id


async def asked(ask, agent, wish):
    """Ask something of an agent, as another machine does."""

    async def look():
        found = [v for v in await agents.find(ask.api, ask.site.pool)]
        return next((v for v in found if v.record.name == agent.name), None)

    view = await wait_until_async(look, what="the agent's record")
    assert view is not None
    await agents.ask(ask.api, view, wish, by="ada")


async def gone(ask, agent):
    """Whether nothing is left of an agent on the server."""
    views = await agents.find(ask.api, ask.site.pool)
    workers = await ask.api.post(f"/work_pools/{ask.site.pool}/workers/filter", {})
    return agent.name not in {*(v.record.name for v in views), *(w["name"] for w in workers)}


async def test_a_paused_agent_takes_nothing_until_it_is_resumed(site, ask, tmp_path):
    agent = site.agent("q")
    first = await running(ask, tmp_path)
    await asked(ask, agent, Wish.PAUSE)
    agent.wait_for("is paused")
    open_gate(tmp_path / "a.go")
    assert (await ask.ended(first)).state.type == "COMPLETED"
    waiting = await ask.enqueue_script("completes", "q")
    taker = site.agent("other", "q", wait=False)
    assert (await ask.ended(waiting)).note.agent == taker.name
    assert taker.stop() == 0
    waiting = await ask.enqueue_script("completes", "q")
    await asked(ask, agent, Wish.RUN)
    agent.wait_for("is running")
    assert (await ask.ended(waiting)).note.agent == agent.name


async def test_a_pause_holds_over_a_restart(site, ask):
    agent = site.agent("q")
    await asked(ask, agent, Wish.PAUSE)
    agent.wait_for("is paused")
    agent.kill()
    again = site.agent("q", name=agent.name)
    waiting = await ask.enqueue_script("completes", "q")
    await asked(ask, again, Wish.RUN)
    again.wait_for("is running")
    assert "took" not in again.said().partition("is running")[0]
    assert (await ask.ended(waiting)).state.type == "COMPLETED"


async def test_a_drained_agent_finishes_its_tasks_and_leaves_without_a_trace(site, ask, tmp_path):
    agent = site.agent("q", slots=2)
    first = await running(ask, tmp_path)
    await asked(ask, agent, Wish.DRAIN)
    agent.wait_for("is draining")
    waiting = await ask.enqueue_script("completes", "q")
    assert agent.code is None
    open_gate(tmp_path / "a.go")
    assert agent.wait() == 0
    assert (await ask.ended(first)).state.type == "COMPLETED"
    assert await ask.status(waiting) == "queued"
    assert await gone(ask, agent)
    site.agent("q", name=agent.name)
    assert (await ask.ended(waiting)).state.type == "COMPLETED", "it works when started again"


async def test_a_stopped_agent_gives_its_tasks_back_without_counting_the_attempt(
    site, ask, tmp_path
):
    agent = site.agent("q")
    run_id = await running(ask, tmp_path)
    await asked(ask, agent, Wish.STOP)
    assert agent.wait() == 0
    run = await ask.run(run_id)
    assert run.state.name == "Queued"
    assert run.note.attempt == 1
    assert "given back" in run.note.text
    open_gate(tmp_path / "a.go")
    other = site.agent("q")
    run = await ask.ended(run_id)
    assert (run.state.type, run.note.agent, run.note.attempt) == ("COMPLETED", other.name, 1)


async def test_what_is_given_back_stands_in_front(site, ask, tmp_path):
    agent = site.agent("q")
    run_id = await running(ask, tmp_path)
    others = [await ask.enqueue_script("completes", "q") for _ in range(2)]
    await asked(ask, agent, Wish.STOP)
    assert agent.wait() == 0
    places = [(await ask.run(r)).place for r in (run_id, *others)]
    assert places == sorted(places)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_a_second_one_gives_back(site, ask, tmp_path, number):
    agent = site.agent("q")
    run_id = await running(ask, tmp_path)
    agent.signal(number)
    agent.wait_for("is draining")
    assert agent.code is None
    agent.signal(number)
    assert agent.wait() == 0
    run = await ask.run(run_id)
    assert (run.state.name, run.note.attempt) == ("Queued", 1)
    wait_until(lambda: not agent.processes(), what="its supervisors to be gone")


async def test_draining_has_a_limit(site, ask, tmp_path):
    agent = site.agent("q", env={"CLEARFLOW_DRAIN": "1"})
    run_id = await running(ask, tmp_path)
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert (await ask.run(run_id)).state.name == "Queued"


async def test_an_agent_told_to_hang_up_leaves_its_tasks_to_the_next_one(site, ask, tmp_path):
    agent = site.agent("q")
    run_id = await running(ask, tmp_path)
    (task,) = agent.processes("cf-task")
    agent.signal(signal.SIGHUP)
    assert agent.wait() == 0
    assert task.pid in {p.pid for p in agent.processes("cf-task")}
    again = site.agent("q", name=agent.name)
    assert "found a" in again.said()
    open_gate(tmp_path / "a.go")
    run = await ask.ended(run_id)
    assert (run.state.type, run.note.attempt, run.run_count) == ("COMPLETED", 1, 1)
    again.wait_for("completed")


async def beats_of(ask, tmp_path, seconds, queue="q"):
    """Start a task that beats into a file; its id, once it beats."""
    parameters = {"folder": str(tmp_path), "seconds": seconds}
    run_id = await ask.enqueue_script("counts", queue, parameters)

    async def look():
        return list(tmp_path.glob("*.beats"))

    await wait_until_async(look, 60, what="the first beat")
    return run_id


async def check_untouched(ask, tmp_path, run_id, seconds):
    """That a task ran once, from its start to its end, and its console is whole."""
    run = await ask.ended(run_id, timeout=100)
    assert (run.state.type, run.run_count, run.note.attempt) == ("COMPLETED", 1, 1)
    (beats,) = tmp_path.glob("*.beats")
    times = [float(x) for x in beats.read_text().split()]
    assert len(times) == round(seconds / 0.02)
    claims = {s.note.claim for s in await ask.history(run_id) if s.note.claim}
    assert len(claims) == 1
    lines = [x for x in await ask.console(run_id, "console") if x.startswith("line ")]
    assert lines == [f"line {n}" for n in range(round(seconds / 0.02))]


async def kill_and_restart(site, ask, tmp_path, seconds):
    agent = site.agent("q")
    run_id = await beats_of(ask, tmp_path, seconds)
    await ask.until_printed(run_id, "line 50")
    agent.kill()
    again = site.agent("q", name=agent.name)
    assert f"({run_id}) running" in again.said()
    await check_untouched(ask, tmp_path, run_id, seconds)
    again.wait_for("completed")
    following = await ask.ended(await ask.enqueue_script("completes", "q"))
    assert following.note.agent == agent.name


async def test_a_killed_and_restarted_agent_finds_its_task_again(site, ask, tmp_path):
    await kill_and_restart(site, ask, tmp_path, 8)


async def test_the_same_in_the_middle_of_30_seconds(site, ask, tmp_path):
    await kill_and_restart(site, ask, tmp_path, 30)


async def test_a_task_outlives_an_agent_that_never_comes_back(site, ask, tmp_path):
    """Its supervisor keeps the machine's heartbeat, so nobody declares it lost."""
    agent = site.agent("q", env={"CLEARFLOW_SILENCE": "4", "CLEARFLOW_HEARTBEAT": "1"})
    sweeper = site.agent("other", env={"CLEARFLOW_SILENCE": "4", "CLEARFLOW_HEARTBEAT": "1"})
    run_id = await beats_of(ask, tmp_path, 10)
    agent.kill()
    for launcher in agent.processes("cf-launcher"):
        launcher.kill()
    await check_untouched(ask, tmp_path, run_id, 10)
    assert sweeper.code is None


async def test_a_killed_launcher_is_started_again(site, ask, tmp_path):
    agent = site.agent("q", slots=2)
    first = await running(ask, tmp_path)
    (launcher,) = agent.processes("cf-launcher")
    launcher.kill()
    second = await ask.ended(await ask.enqueue_script("completes", "q"))
    assert second.state.type == "COMPLETED"
    open_gate(tmp_path / "a.go")
    assert (await ask.ended(first)).state.type == "COMPLETED"


async def test_a_killed_supervisor_takes_its_task_with_it_which_is_queued_again(
    site, ask, tmp_path
):
    agent = site.agent("q")
    run_id = await running(ask, tmp_path)
    (tmp_path / "a.running").unlink()
    (task,) = agent.processes("cf-task")
    (supervisor,) = agent.processes("cf-supervisor")
    supervisor.kill()
    wait_until(lambda: not os.path.exists(f"/proc/{task.pid}"), what="the task to die with it")
    wait_until((tmp_path / "a.running").exists, 60, what="the second attempt")
    open_gate(tmp_path / "a.go")
    run = await ask.ended(run_id)
    assert (run.state.type, run.note.attempt) == ("COMPLETED", 2)
    texts = [s.note.text for s in await ask.history(run_id)]
    assert "lost: its supervisor died; waiting for attempt 2 of 3" in texts


async def test_a_supervisor_killed_over_the_rest_of_a_console_leaves_nothing(site, ask):
    agent = site.agent("q", env={"CLEARFLOW_HEARTBEAT": "1"})
    run_id = await ask.enqueue("loud.py:floods", "q", {"megabytes": 6, "line": 100})
    run = await ask.until(run_id, "completed")
    (supervisor,) = agent.processes("cf-supervisor")
    supervisor.kill()
    left = list(site.folder.glob(f"home/agents/*/{run.note.claim}"))
    assert left
    wait_until(lambda: not left[0].exists(), what="its folder to be cleared away")
    assert await ask.status(run_id) == "completed"


async def test_nothing_of_an_agent_is_left_when_it_has_stopped(site, ask):
    agent = site.agent("q")
    await ask.ended(await ask.enqueue_script("completes", "q"))
    assert agent.stop() == 0
    wait_until(lambda: not processes_with("CF_TEST_AGENT", agent.mark), what="all to be gone")
    assert not list(site.folder.glob("home/agents/*/*/"))
