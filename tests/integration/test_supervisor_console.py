"""A task's console, as Prefect and its agent have it."""

import contextlib
import itertools
import subprocess
from pathlib import Path

import pytest

from clearflow._prefect import logs
from tests.support.gates import closed, open_gate
from tests.support.waiting import wait_until


async def printed(ask, entrypoint, parameters=None, **job_variables):
    """Run a flow to its end; the lines of its console."""
    run = await ask.ended(await ask.enqueue(entrypoint, "q", parameters, **job_variables))
    assert run.state.type == "COMPLETED", await ask.report(run.id)
    return await ask.console(run.id)


async def test_whoever_prints_is_on_the_console(shared):
    lines = await printed(shared, "loud.py:from_everywhere")
    start = lines.index("from print")
    assert lines[start : start + 8] == [
        "from print",
        "from a file descriptor",
        "from a child",
        "its errors",
        "from C",
        "from stderr",
        "from the logger",
        "from a task's logger",
    ]
    assert any(line.startswith("without an end") for line in lines)


async def test_records_of_a_tasks_logger_belong_to_the_task(shared):
    run = await shared.ended(await shared.enqueue("loud.py:from_everywhere", "q"))
    records = [line async for line in logs.read(shared.api, [run.id])]
    (record,) = [r for r in records if r.message == "from a task's logger"]
    assert record.task_run_id
    assert record.level == 30
    assert record.logger == "prefect.task_runs"


async def test_progress_bars_are_folded(shared):
    lines = await printed(shared, "loud.py:progress")
    console = [line for line in lines if "%" in line or line in {"windows", "written", "ende"}]
    assert console == ["100 %", "windows", "written", "ende"]


async def test_values_of_secret_variables_are_masked(shared):
    secret = "hunter2-hunter2"
    run = await shared.ended(
        await shared.enqueue("loud.py:tells", "q", {"name": "MY_TOKEN"}, env={"MY_TOKEN": secret})
    )
    lines = await shared.console(run.id)
    assert "the value is ********" in lines
    assert "logged: ********" in lines
    text = "".join(lines)
    assert secret not in text
    assert "hunter" not in text.replace(secret, "")


async def test_lines_come_in_the_order_in_which_they_were_printed(shared):
    run = await shared.ended(await shared.enqueue("loud.py:floods", "q", {"megabytes": 1}))
    lines = [line async for line in logs.read(shared.api, [run.id])]
    numbers = [int(line.message[:8]) for line in lines if line.message[:8].isdigit()]
    assert numbers == list(range(1000))
    times = [line.at for line in lines]
    assert all(a < b for a, b in itertools.pairwise(times))


async def test_lines_and_log_records_keep_their_order(shared):
    lines = await printed(shared, "loud.py:in_turn", {"pairs": 300})
    numbers = [int(line.removeprefix("line ")) for line in lines if line.startswith("line ")]
    assert numbers == list(range(600))


async def test_lines_of_threads_are_whole(shared):
    lines = await printed(shared, "loud.py:many_threads", {"lines": 300})
    for name in "abc":
        assert [x for x in lines if x.startswith(f"{name} ")] == [f"{name} {n}" for n in range(300)]


async def test_bytes_that_are_no_text_are_shown_as_well_as_can_be(shared):
    lines = await printed(shared, "loud.py:strange")
    assert "latin ���" in lines
    assert any(line.startswith("nul ") and line.endswith("red\x1b[0m") for line in lines)
    assert "ü�" in lines
    assert "".join(line for line in lines if line.startswith("zzz")) == "z" * 300_000
    assert "last" in lines


async def test_of_100_mb_prefect_gets_the_first_and_the_last_and_the_agent_all(shared, tmp_path):
    gate = closed(tmp_path / "gate")
    parameters = {"megabytes": 100, "gate": str(gate)}
    run_id = await shared.enqueue("loud.py:floods", "q", parameters)
    run = await shared.until(run_id, "running")

    (kept,) = shared.site.folder.glob(f"**/{run.note.claim}/console.log")
    wait_until(lambda: kept.stat().st_size > 100_000_000, timeout=60, what="the whole console")
    wait_until(lambda: b"all is said" in tail(kept), what="the last line")
    open_gate(gate)

    run = await shared.ended(run_id, timeout=90)
    assert run.state.type == "COMPLETED"
    lines = await shared.console(run_id)
    (cut,) = [n for n, line in enumerate(lines) if "bytes are left out here" in line]
    assert sum(len(line) + 1 for line in lines[:cut]) == pytest.approx(1_000_000, rel=0.02)
    assert sum(len(line) + 1 for line in lines[cut + 1 :]) == pytest.approx(4_000_000, rel=0.02)
    first = [int(line[:8]) for line in lines[:cut] if line[:8].isdigit()]
    assert first == list(range(len(first)))
    assert any("all is said" in line for line in lines[-5:])


def tail(path):
    with path.open("rb") as file:
        file.seek(-4096, 2)
        return file.read()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 1 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_disk_that_fills_up_ends_the_copy_and_not_the_task(site, ask, small_disk):
    site.agent("q", home=small_disk)
    lines = await printed(ask, "loud.py:floods", {"megabytes": 3})
    (said,) = [line for line in lines if "no longer kept on the agent" in line]
    assert "No space left on device" in said
    assert any("all is said" in line for line in lines)


async def test_an_agent_whose_disk_is_full_takes_tasks_again_when_there_is_room(
    site, ask, small_disk
):
    agent = site.agent("q", home=small_disk)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    run_id = await ask.enqueue("endings.py:completes", "q")
    agent.wait_for("could not be started")
    filler.unlink()
    run = await ask.ended(run_id)
    assert run.state.type == "COMPLETED"
    assert run.note.attempt == 1
    assert len(await ask.history(run_id)) < 12


def test_the_console_of_a_task_is_closed_to_others(shared_site, shared_agent):
    homes = [Path(p) for p in shared_site.folder.glob("home/agents/*")]
    assert homes
    assert all(home.stat().st_mode & 0o077 == 0 for home in homes)
