"""Aborting a task, at every moment of its life and however it resists."""

import os
from functools import partial
from pathlib import Path

import pytest

from clearflow._prefect import claims
from clearflow.runtimes import process
from clearflow.words import lifecycle
from tests.support.waiting import wait_until, wait_until_async


async def abort(ask, run_id, by="ada"):
    """What every clearflow command does to abort a task."""
    assert await claims.abort(ask.api, run_id, by) is not None


async def cancel(ask, run_id):
    """What the button in the Prefect UI does."""
    state = {"type": "CANCELLING", "name": "Cancelling"}
    await ask.api.post(f"/flow_runs/{run_id}/set_state", {"state": state})


async def started(ask, flow, folder, **job_variables):
    """A task whose user code is running."""
    parameters = {"folder": str(folder)}
    run_id = await ask.enqueue(f"stubborn.py:{flow}", "q", parameters, **job_variables)
    await ask.until(run_id, "running")
    await wait_until_async(
        lambda: exists(folder / "self.pid"), timeout=60, what="user code to start"
    )
    return run_id


def lives(pid):
    """Whether there is such a process; one that has ended and is not reaped does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def exists(path):
    return path.exists()


async def test_an_abort_is_told_with_who_and_when(shared, tmp_path):
    run_id = await started(shared, "cleans_up", tmp_path)
    await abort(shared, run_id, by="ada@example.org")
    run = await shared.ended(run_id)
    assert (run.state.type, run.state.name) == ("CANCELLED", "Cancelled")
    assert run.note.by == "ada@example.org"
    now = shared.api.clock.now()
    assert run.note.text.startswith(f"aborted by ada@example.org at {now:%Y-%m-%dT}")


async def test_a_cancellation_in_the_prefect_ui_is_an_abort(shared, tmp_path):
    run_id = await started(shared, "cleans_up", tmp_path)
    await cancel(shared, run_id)
    run = await shared.ended(run_id)
    assert run.state.type == "CANCELLED"
    assert "Prefect UI" in run.note.text


@pytest.mark.parametrize(
    ("flow", "seen"), [("cleans_up", "KeyboardInterrupt"), ("cleans_up_async", "CancelledError")]
)
async def test_user_code_sees_ctrl_c_first_and_hooks_run(shared, tmp_path, flow, seen):
    run_id = await started(shared, flow, tmp_path)
    await abort(shared, run_id)
    run = await shared.ended(run_id)
    assert run.state.type == "CANCELLED"
    assert (tmp_path / "seen").read_text() == seen
    assert (tmp_path / "hook").exists(), await shared.report(run_id)
    assert (tmp_path / "hook").read_text() == "Cancelling"
    console = await shared.console(run_id)
    assert any(line.startswith("hook ") for line in console)
    if flow == "cleans_up":
        assert "cleaned up" in console


async def test_no_hook_for_a_cancellation_runs_without_one(shared, tmp_path):
    run = await shared.ended(
        await shared.enqueue("stubborn.py:starts", "q", {"folder": str(tmp_path)})
    )
    assert run.state.type == "COMPLETED"
    assert not (tmp_path / "hook").exists()


@pytest.mark.parametrize("flow", ["in_a_task", "in_threads", "waits_for_a_child"])
async def test_it_ends_wherever_the_flow_is(shared, tmp_path, flow):
    run_id = await started(shared, flow, tmp_path, grace_seconds=3)
    await abort(shared, run_id)
    run = await shared.ended(run_id)
    assert run.state.type == "CANCELLED"


async def test_a_flow_that_ignores_the_word_and_returns_was_aborted_all_the_same(shared, tmp_path):
    run_id = await started(shared, "swallows", tmp_path)
    await abort(shared, run_id)
    run = await shared.ended(run_id)
    assert run.state.type == "CANCELLED"
    assert "so what" in await shared.console(run_id)


async def test_the_whole_tree_ends_whatever_it_ignores(shared, tmp_path):
    run_id = await started(shared, "family", tmp_path, grace_seconds=1)
    names = {"self", "child", "daemon", "nested", "bare"}

    def family():
        found = {p.stem: int(p.read_text() or 0) for p in tmp_path.glob("*.pid")}
        return found if found.keys() == names and all(found.values()) else None

    pids = wait_until(family, what="the whole family")
    await abort(shared, run_id)
    run = await shared.ended(run_id)
    assert run.state.type == "CANCELLED"
    assert {name for name, pid in pids.items() if lives(pid)} == set()


async def test_what_a_finished_task_left_running_ends_with_it(shared, tmp_path):
    run_id = await shared.enqueue("stubborn.py:leaves_children", "q", {"folder": str(tmp_path)})
    run = await shared.ended(run_id)
    assert run.state.type == "COMPLETED"
    assert not lives(int((tmp_path / "daemon.pid").read_text()))


async def test_a_waiting_task_is_aborted_at_once(shared, tmp_path):
    run_id = await shared.enqueue("stubborn.py:starts", "nobody's", {"folder": str(tmp_path)})
    await abort(shared, run_id, by="ada")
    run = await shared.run(run_id)
    assert run.state.type == "CANCELLED"


async def test_a_task_is_aborted_while_its_environment_is_prepared(shared, tmp_path):
    script = f"echo preparing; touch {tmp_path}/preparing; sleep 600"
    parameters = {"folder": str(tmp_path)}
    run_id = await shared.enqueue("stubborn.py:starts", "q", parameters, setup_script=script)
    await wait_until_async(lambda: exists(tmp_path / "preparing"), what="the set-up script")
    assert await shared.status(run_id) == "starting"
    await abort(shared, run_id)
    run = await shared.ended(run_id)
    assert run.state.type == "CANCELLED"
    assert run.note.by == "ada"
    assert not (tmp_path / "self.pid").exists()


@pytest.mark.parametrize("how", [abort, cancel])
async def test_an_abort_at_any_moment_of_the_start_wins(shared, tmp_path, how):
    """Between the claim and the first line, by what can be seen of a start from outside."""
    moments = [
        lambda folder: True,
        lambda folder: list(shared.site.folder.glob("home/agents/*/*/job.json")),
        lambda folder: list(shared.site.folder.glob("home/agents/*/*/s")),
        lambda folder: shared.site.agents[0].processes("cf-task"),
        lambda folder: list(shared.site.folder.glob("home/agents/*/*/console.log")),
        lambda folder: (folder / "self.pid").exists(),
    ]
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        run_id = await shared.enqueue("stubborn.py:cleans_up", "q", {"folder": str(folder)})
        wait_until(partial(moment, folder), what=f"moment {number}")
        await how(shared, run_id)
        run = await shared.ended(run_id)
        assert run.state.type == "CANCELLED", await shared.report(run_id)


async def test_many_at_once_and_the_next_is_taken(shared, tmp_path):
    ids = []
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        ids.append(await shared.enqueue("stubborn.py:cleans_up", "q", {"folder": str(folder)}))
    following = await shared.enqueue("endings.py:completes", "q")
    await wait_until_async(lambda: exists(tmp_path / "1" / "self.pid"), what="two to run")
    for run_id in ids:
        await abort(shared, run_id)
    for run_id in ids:
        run = await shared.ended(run_id)
        assert run.state.type == "CANCELLED"
    run = await shared.ended(following)
    assert run.state.type == "COMPLETED"


async def test_the_slot_of_an_aborted_task_is_used_at_once(shared, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = await started(shared, "cleans_up", tmp_path / "a")
    second = await started(shared, "cleans_up", tmp_path / "b")
    waiting = await shared.enqueue("endings.py:completes", "q")
    await abort(shared, first)
    await shared.ended(waiting)
    ended = (await shared.run(first)).state.at
    claimed = next(s.at for s in await shared.history(waiting) if s.note.claim)
    assert (claimed - ended).total_seconds() < 2
    await abort(shared, second)
    await shared.ended(second)


async def test_what_has_ended_cannot_be_aborted(shared):
    run_id = await shared.enqueue("endings.py:completes", "q")
    run = await shared.ended(run_id)
    assert lifecycle.abort(run, "ada", shared.api.clock.now()) is None
    await cancel(shared, run_id)
    assert (await shared.run(run_id)).state.type == "COMPLETED"


def test_this_process_is_no_part_of_any_tree():
    assert os.getpid() not in process.of_claim("nobody")
