"""What an agent takes: its queues, its slots and what fits on its machine."""

import re
import shlex
import socket
import sys
from datetime import timedelta

import pytest

from clearflow import agents
from clearflow._prefect import pools
from tests.support.agents import AGENT, AgentProcess
from tests.support.gates import closed, open_gate
from tests.support.waiting import wait_until_async

SCRIPTS = True


async def waits(ask, folder, queue, name, **job_variables):
    """Enqueue a task that runs until it is told to end."""
    closed(folder / f"{name}.go")
    parameters = {"folder": str(folder), "name": name}
    return await ask.enqueue_script("until_told", queue, parameters, name=name, **job_variables)


async def begun(folder, *names):
    """Until these tasks are running, and no other is."""

    async def look():
        found = {p.stem for p in folder.glob("*.running")}
        return found if set(names) <= found else None

    found = await wait_until_async(look, 60, what=f"{names} to run")
    assert found == set(names)


def end(folder, *names):
    for name in names:
        open_gate(folder / f"{name}.go")
        (folder / f"{name}.running").unlink(missing_ok=True)


async def starts(ask, ids):
    """The names of these tasks in the order in which they were claimed."""
    claimed = []
    for run_id in ids:
        run = await ask.ended(run_id)
        state = next(s for s in await ask.history(run_id) if s.note.claim)
        claimed.append((state.at, run.name))
    return [name for _, name in sorted(claimed)]


async def fill(ask, folder, queues):
    """Two tasks in each queue, that end at once: `a1`, `a2`, `b1`…"""
    ids = []
    for queue in queues:
        for number in (1, 2):
            end(folder, f"{queue}{number}")
            ids.append(await waits(ask, folder, queue, f"{queue}{number}"))
    return ids


async def test_queues_are_served_in_the_agents_own_order(site, ask, tmp_path):
    for queue in "abc":
        await pools.create_queue(ask.api, site.pool, queue)
    ids = await fill(ask, tmp_path, "abc")
    site.agent("c", "a", "b")
    assert await starts(ask, ids) == ["c1", "c2", "a1", "a2", "b1", "b2"]


async def test_with_fairness_queues_are_served_in_turn(site, ask, tmp_path):
    for queue in "abc":
        await pools.create_queue(ask.api, site.pool, queue)
    ids = await fill(ask, tmp_path, "abc")
    site.agent("a", "b", "c", fairness=True)
    assert await starts(ask, ids) == ["a1", "b1", "c1", "a2", "b2", "c2"]


async def test_a_queue_that_is_not_served_waits(site, ask, tmp_path):
    other = await waits(ask, tmp_path, "other", "other")
    site.agent("q")
    end(tmp_path, "mine")
    await ask.ended(await waits(ask, tmp_path, "q", "mine"))
    assert await ask.status(other) == "queued"


async def test_slots_are_filled_and_never_more(site, ask, tmp_path):
    site.agent("q", slots=2)
    ids = [await waits(ask, tmp_path, "q", name) for name in "abc"]
    await begun(tmp_path, "a", "b")
    assert await ask.status(ids[2]) == "queued"
    end(tmp_path, "a")
    await begun(tmp_path, "b", "c")
    end(tmp_path, "b", "c")
    for run_id in ids:
        assert (await ask.ended(run_id)).state.type == "COMPLETED"


async def visible(ask, run_id):
    """The GPUs that a task was shown."""
    (line,) = [
        x for x in await ask.console(run_id, "console") if x.startswith("CUDA_VISIBLE_DEVICES")
    ]
    return line.removeprefix("CUDA_VISIBLE_DEVICES").strip()


async def test_gpus_are_handed_out_one_task_each(site, ask, tmp_path):
    site.agent("q", slots=4, gpus=["3", "5"])
    ids = [await waits(ask, tmp_path, "q", name, gpus=1) for name in "abc"]
    ids.append(await waits(ask, tmp_path, "q", "d", gpus=0))
    await begun(tmp_path, "a", "b", "d")
    assert await ask.status(ids[2]) == "queued", "both GPUs are taken"
    end(tmp_path, "a")
    await begun(tmp_path, "b", "c", "d")
    end(tmp_path, "b", "c", "d")
    for run_id in ids:
        await ask.ended(run_id)
    given = [await visible(ask, run_id) for run_id in ids]
    assert sorted(given[:2]) == ["3", "5"]
    assert given[2:] == [given[0], ""], "the third got what the first had"


@pytest.mark.parametrize(
    ("gpus", "slots", "asked", "seen"),
    [
        (["0", "1"], 1, {}, "0,1"),
        (["0", "1"], 1, {"gpus": 1}, "0"),
        (["0", "1"], 1, {"gpus": 0}, ""),
        (["0", "1"], 2, {}, ""),
        ([], 1, {}, ""),
    ],
)
async def test_which_gpus_a_task_sees(site, ask, gpus, slots, asked, seen):
    site.agent("q", gpus=gpus, slots=slots)
    run = await ask.ended(await ask.enqueue_script("shows_gpus", "q", **asked))
    assert await visible(ask, run.id) == seen


async def test_a_task_too_large_for_any_machine_does_not_hold_up_the_others(site, ask):
    site.agent("q", slots=2)
    giant = await ask.enqueue_script("completes", "q", memory_mb=10**9)
    many_gpus = await ask.enqueue_script("completes", "q", gpus=64)
    small = await ask.enqueue_script("completes", "q", memory_mb=1, cpus=0.5)
    assert (await ask.ended(small)).state.type == "COMPLETED"
    assert await ask.status(giant) == "queued"
    assert await ask.status(many_gpus) == "queued"
    assert [s.name for s in await ask.history(giant)] == ["Queued"], "it was never taken"


async def test_a_task_that_does_not_fit_now_is_passed_by_smaller_ones(site, ask, tmp_path):
    site.agent("q", slots=3, gpus=["0", "1"])
    first = await waits(ask, tmp_path, "q", "first", gpus=1)
    await begun(tmp_path, "first")
    large = await waits(ask, tmp_path, "q", "large", gpus=2)
    small = await waits(ask, tmp_path, "q", "small", gpus=1)
    await begun(tmp_path, "first", "small")
    assert await ask.status(large) == "queued"
    end(tmp_path, "first", "small")
    await begun(tmp_path, "large")
    end(tmp_path, "large")
    for run_id in (first, large, small):
        assert (await ask.ended(run_id)).state.type == "COMPLETED"


async def test_a_task_planned_for_later_starts_when_it_is_due(site, ask):
    agent = site.agent("q", env={"CLEARFLOW_IDLE_ASK": "60"})
    deployment = await ask.deploy("endings.py:completes", "q")
    due = ask.api.clock.now() + timedelta(seconds=4)
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}}
    made = await ask.api.post(f"/deployments/{deployment['id']}/create_flow_run", {"state": state})
    run = await ask.ended(made["id"])
    assert run.started is not None
    assert timedelta(0) <= run.started - due < timedelta(seconds=5), agent.said()


async def test_a_paused_queue_is_left_alone_until_it_is_resumed(site, ask):
    site.agent("q", "other", env={"CLEARFLOW_IDLE_ASK": "2"})
    await pools.change_queue(ask.api, site.pool, "q", is_paused=True)
    waiting = await ask.enqueue_script("completes", "q")
    await ask.ended(await ask.enqueue_script("completes", "other"))
    assert await ask.status(waiting) == "queued"
    await pools.change_queue(ask.api, site.pool, "q", is_paused=False)
    assert (await ask.ended(waiting)).state.type == "COMPLETED"


async def test_a_queue_that_does_not_exist_is_refused(site):
    agent = site.agent("nowhere", create_queues=False, wait=False)
    assert agent.wait() != 0
    assert "there is no queue 'nowhere'" in agent.said()


async def test_queues_are_made_when_asked_for_whatever_their_name(site, ask):
    name = "Größe 1/2 <fast> 🚀"
    site.agent(name)
    run = await ask.ended(await ask.enqueue_script("completes", stored_name(name)))
    assert run.state.type == "COMPLETED"
    assert run.queue_shown == name


def stored_name(name):
    return name.replace("/", "／").replace("<", "＜").replace(">", "＞")


async def test_two_agents_of_one_name_are_refused(site):
    site.agent("q", name=f"{site.pool}:0")
    second = site.agent("q", name=f"{site.pool}:0", wait=False)
    assert second.wait() != 0
    assert "is running on this machine already" in second.said()


async def test_an_agent_of_the_same_name_on_another_machine_is_refused(site, ask, tmp_path):
    name = f"{site.pool}:0"
    first = site.agent("q", name=name)
    await recorded(ask, name)
    other = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
    program = [*other, sys.executable, "-c", AGENT]
    second = site.agent("q", name=name, home=tmp_path / "other", program=program, wait=False)
    assert second.wait() != 0
    if "Operation not permitted" in second.said():
        pytest.skip("only root may have another host name")
    assert f"is running on {socket.gethostname()}" in second.said()
    assert first.code is None


async def recorded(ask, name, **fields):
    """The agent, once its record is there and has these values."""

    async def look():
        for view in await agents.find(ask.api, ask.site.pool):
            has = {k: getattr(view.record, k) for k in fields}
            if view.record.name == name and has == fields:
                return view
        return None

    return await wait_until_async(look, 60, what=f"the record of {name}")


async def test_agents_without_a_name_number_themselves(site, ask):
    first, second = (site.agent("q", name="") for _ in range(2))
    names = [re.findall(r"agent (\S+) serves", a.said())[0] for a in (first, second)]
    host = socket.gethostname()
    assert names == [f"{host}:0", f"{host}:1"]


async def test_an_idle_agent_ends_after_its_timeout_and_a_busy_one_does_not(site, ask, tmp_path):
    run_id = await ask.enqueue_script("counts", "q", {"folder": str(tmp_path), "seconds": 4})
    agent = site.agent("q", idle_timeout=2)
    run = await ask.ended(run_id)
    assert run.state.type == "COMPLETED"
    assert agent.code is None
    assert agent.wait() == 0
    assert "nothing to do for 2 s" in agent.said()
    assert agent.name not in [v.record.name for v in await agents.find(ask.api, site.pool)]


async def test_a_services_agent_runs_many_light_tasks(site, ask, tmp_path):
    site.agent("services", services=True)
    names = [f"t{n}" for n in range(6)]
    ids = [await waits(ask, tmp_path, "services", name) for name in names]
    await begun(tmp_path, *names)
    end(tmp_path, *names)
    for run_id in ids:
        assert (await ask.ended(run_id)).state.type == "COMPLETED"


async def test_the_record_of_an_agent_tells_what_it_is_and_has(site, ask, tmp_path):
    agent = site.agent("q", "r", slots=2, gpus=["0"])
    run_id = await waits(ask, tmp_path, "q", "a")
    await begun(tmp_path, "a")

    view = await recorded(ask, agent.name, tasks=(run_id,))
    record = view.record
    assert (record.queues, record.slots, record.gpus) == (("q", "r"), 2, ("0",))
    assert (view.status, view.online, record.pid) == ("running", True, agent.pid)
    assert record.cpus >= 1
    assert record.memory_mb > 100
    end(tmp_path, "a")
    await ask.ended(run_id)


async def test_prefect_worker_start_is_the_same_agent(site, ask, tmp_path):
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "clearflow"]
    options = ["--pool", site.pool, "--work-queue", "q", "--name", f"{site.pool}:w", "--limit", "2"]
    worker = AgentProcess(
        {**site.env, "CLEARFLOW_HOME": str(site.folder / "home")},
        tmp_path / "worker.log",
        {},
        program=["sh", "-c", "exec " + shlex.join([*command, *options])],
    )
    site.agents.append(worker)
    worker.serving()
    ids = [await waits(ask, tmp_path, "q", name) for name in "ab"]
    await begun(tmp_path, "a", "b")
    end(tmp_path, "a", "b")
    for run_id in ids:
        run = await ask.ended(run_id)
        assert (run.state.type, run.note.agent) == ("COMPLETED", f"{site.pool}:w")
    assert worker.stop() == 0


async def test_idle_agents_are_woken_and_do_not_poll(site, ask):
    """With an hour between two looks, a task still starts at once."""
    site.agent("q", env={"CLEARFLOW_IDLE_ASK": "3600"})
    for _ in range(3):
        run = await ask.ended(await ask.enqueue_script("completes", "q"), timeout=20)
        assert run.started is not None
        assert run.created is not None
        assert run.started - run.created < timedelta(seconds=8)
