"""How tasks end, as the server tells it: flows run by a real agent."""

import contextlib
from pathlib import Path

import pytest

from tests.support.waiting import wait_until


async def end(ask, entrypoint, parameters=None, **job_variables):
    """Run a flow to its end; its run."""
    return await ask.ended(await ask.enqueue(entrypoint, "q", parameters, **job_variables))


async def test_a_flow_that_returns_has_completed(shared):
    run = await end(shared, "endings.py:completes", {"word": "hi"})
    assert run.state.type == "COMPLETED"
    assert await shared.console(run.id, "console") == ["says hi"]


async def test_the_states_of_a_task_name_its_agent_and_its_attempt(shared, shared_agent):
    run = await end(shared, "endings.py:completes")
    states = [s for s in await shared.history(run.id) if s.note.claim]
    assert [s.name for s in states] == ["Pending", "Running", "Completed"]
    assert {s.note.agent for s in states} == {shared_agent.name}
    assert {s.note.attempt for s in states} == {1}
    assert states[0].note.text == f"claimed by {shared_agent.name}"
    assert states[1].note.text == f"running on {shared_agent.name}"


async def test_an_exception_is_told_in_the_final_state(shared):
    run = await end(shared, "endings.py:raises", {"words": "the disk is made of cheese"})
    assert run.state.type == "FAILED"
    assert "the disk is made of cheese" in run.note.text
    console = "\n".join(await shared.console(run.id))
    assert "ValueError: the disk is made of cheese" in console
    assert 'endings.py", line' in console


@pytest.mark.parametrize(("flow", "code"), [("exits", 3), ("exits", 0), ("exits_async", 4)])
async def test_sys_exit_has_crashed_as_prefect_says_and_tells_its_code(shared, flow, code):
    run = await end(shared, f"endings.py:{flow}", {"code": code})
    assert (run.state.type, run.note.text) == ("CRASHED", f"exit code {code}")


async def test_a_process_that_leaves_without_a_word_has_failed_with_its_exit_code(shared):
    run = await end(shared, "endings.py:leaves", {"code": 3})
    assert (run.state.type, run.note.text) == ("FAILED", "exit code 3")
    assert "leaving" in await shared.console(run.id)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT"])
async def test_a_signal_is_told_by_its_name(shared, name):
    run = await end(shared, "endings.py:kills_itself", {"name": name})
    assert (run.state.type, run.note.text) == ("CRASHED", f"killed by {name}")


async def test_a_flow_that_cannot_be_loaded_has_failed_with_the_reason(shared):
    run = await end(shared, "broken.py:flow")
    assert run.state.type == "FAILED"
    assert run.note.text.startswith("the flow could not be loaded: ")
    assert "RuntimeError('broken on purpose')" in run.note.text


async def test_a_file_that_is_not_there_is_named(shared):
    run = await end(shared, "nowhere.py:flow")
    assert run.state.type == "FAILED"
    assert "nowhere.py" in run.note.text


async def test_a_function_that_is_not_there_is_named(shared):
    run = await end(shared, "endings.py:nobody")
    assert run.state.type == "FAILED"
    assert "nobody" in run.note.text


async def test_parameters_that_do_not_fit_are_told(shared):
    run = await end(shared, "endings.py:exits", {"code": "many"})
    assert run.state.type == "FAILED"
    assert "code" in run.note.text


@pytest.fixture
def small_memory(unique):
    """A memory group of 40 MB: the file to write a process id into."""
    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(memory_group(unique("clearflow"), 40_000_000))
        except PermissionError:
            pytest.skip("only root may limit the memory of processes")
        yield group


@contextlib.contextmanager
def memory_group(name, limit):
    """A control group of the kernel's, of either version."""
    root = Path("/sys/fs/cgroup")
    unified = (root / "cgroup.controllers").exists()
    group = (root if unified else root / "memory") / name
    group.mkdir()
    try:
        (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(limit))
        yield group / "cgroup.procs"
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), what="the group to be empty")
        group.rmdir()


async def test_the_kernels_out_of_memory_killer_is_named(shared, small_memory):
    run = await end(shared, "endings.py:runs_out_of_memory", {"group": str(small_memory)})
    assert run.state.type == "CRASHED"
    assert run.note.text == "killed: out of memory"
