"""The notebook that makes its machine an agent, run as Jupyter runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from clearflow._prefect import pools
from tests.support.gates import closed
from tests.support.waiting import wait_until_async

NOTEBOOK = Path(__file__).parents[2] / "examples" / "colab.ipynb"
SCRIPT = """
# /// script
# dependencies = ["a-package-that-nobody-has-ever-made"]
# ///
import sys
print("python", sys.executable)
"""


@pytest.fixture
def machine(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment in which Jupyter is started."""
    for key, value in site.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("CLEARFLOW_POOL", site.pool)
    monkeypatch.setenv("CLEARFLOW_HOME", str(tmp_path / "colab-home"))
    monkeypatch.setenv("QUEUE", "colab")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return tmp_path


def run_notebook(folder: Path) -> list[str]:
    """Execute it from top to bottom: what each code cell has printed."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=110, kernel_name="python3", resources=where).execute()
    return [
        "".join(out.get("text", "") for out in cell["outputs"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


@pytest.mark.timeout(240)
async def test_a_notebook_runs_tasks_with_its_own_packages(site, ask, machine):
    await pools.ensure_queue(ask.api, site.pool, "colab")
    (machine / "train.py").write_text(SCRIPT)
    words = ["task", "run", "train.py", "--queue", "colab"]
    sent = subprocess.run(  # noqa: ASYNC221 - nothing else happens here meanwhile
        [sys.executable, "-m", "clearflow", *words], cwd=machine, capture_output=True, text=True
    )
    assert sent.returncode == 0, sent.stderr
    task = sent.stdout.strip()

    _, _, background, foreground, stopped = run_notebook(machine)

    assert "started in the background" in background
    assert "colab" in background
    assert ":notebook-2 serves colab" in foreground
    assert "nothing to do for 2 s" in foreground
    assert ":notebook stops now" in stopped
    ended = await ask.ended(task)
    assert ended.state.type == "COMPLETED", await ask.report(task)
    assert f"python {sys.executable}" in await ask.console(task, "console")


async def has_ended(agent) -> bool:
    return agent.code is not None


async def test_an_agent_hands_its_task_back_before_its_machine_is_taken_away(site, ask, tmp_path):
    first = site.agent("q", max_hours=8 / 3600)
    closed(tmp_path / "a.go")
    run_id = await ask.enqueue("patient.py:until_told", "q", {"folder": str(tmp_path), "name": "a"})
    await ask.until(run_id, "running")
    await ask.until(run_id, "queued", timeout=60)
    run = await ask.run(run_id)
    assert (run.note.attempt, "given back" in run.note.text) == (1, True)
    await wait_until_async(partial(has_ended, first), 60, what="the agent to leave")
    assert first.code == 0
    assert "this machine is there for" in first.said()


CELLS = [
    "from clearflow import Task\ntask = Task.init('Digits', 'notebook')",
    "lr = task.connect({'lr': 1})",
    "print('here' if Task.running_locally() else 'there', lr, flush=True)",
    "task.execute_remotely('nb', clone=True, exit_process=False)\nprint('cell 3', flush=True)",
]


@pytest.mark.timeout(240)
async def test_a_notebook_sends_itself_and_runs_there_as_a_program(site, ask, machine: Path):
    site.agent("nb", env={"CLEARFLOW_HOME": str(machine / "agent-home")})
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": str(machine)}}
    NotebookClient(notebook, timeout=110, kernel_name="python3", resources=where).execute()
    printed = "".join(o.get("text", "") for c in notebook["cells"] for o in c["outputs"])
    assert "here {'lr': 1}" in printed
    (task,) = {line.split()[2] for line in printed.splitlines() if "waits in nb" in line}
    ended = await ask.ended(task, timeout=120)
    assert ended.state.type == "COMPLETED", await ask.report(task)
    console = "\n".join(await ask.console(task, "console"))
    assert "there {'lr': 1}" in console, (task, printed, await ask.report(task))
    assert "cell 3" in console
