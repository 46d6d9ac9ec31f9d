"""What a task asks of its machine, changed by hand; and tasks that are published and archived."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clearflow._prefect import events, pools
from tests.integration.test_task_api import ask_task, laptop, run, sent, start, task_of
from tests.support.git import Laptop
from tests.support.waiting import wait_until_async

__all__ = ["laptop"]

NEEDS = """
from clearflow import Task
Task.add_requirements("cowsay", "6.1")
task = Task.init("Digits", "needs")
task.execute_remotely("q")
import cowsay
print("with", cowsay.get_output_string("cow", "moo").split()[0], flush=True)
"""
CHANGED = """
base = Task.get_task({task!r})
again = Task.clone(base)
again.set_base_docker("python:3.12 --shm-size 1g", docker_setup_bash_script=["echo a", "echo b"])
image = again.get_base_docker()
again.set_base_docker("", "")
again.set_packages(["cowsay==6.0"])
Task.enqueue(again, "q")
again.wait()
base.publish()
base.add_tags("stable")
base.set_archived(True)
refused = ""
try:
    base.rename("other")
except Exception as error:
    refused = str(error)
made = Task.create(base_task_id=base.id, docker="python:3.11")
print(json.dumps([image, again.status, base.get_tags(), base.get_archived(), refused,
                  made.get_base_docker(), again.id]))
"""


@pytest.mark.timeout(240)
async def test_packages_and_images_are_asked_for_and_published_tasks_stay(
    site, ask, laptop: Laptop, tmp_path: Path
):
    site.agent("q", slots=1)
    since = ask.api.clock.now()
    task, _, _ = run(site, laptop, NEEDS)
    ended = await ask.ended(task)
    assert ended.status(ask.api.clock.now()) == "completed", await ask.report(task)
    image, status, tags, archived, refused, docker, again = ask_task(
        site, CHANGED.format(task=task)
    )
    assert image == "python:3.12 --shm-size 1g"
    assert status == "completed", await ask.report(again)
    console = "\n".join(await ask.console(again))
    assert "with" in console, "the package that was added is there too"
    assert (set(tags), archived) == ({"published", "stable", "archived"}, True)
    assert "is published: it stays as it is" in refused
    assert docker == "python:3.11"
    names = []
    while "clearflow.task.archived" not in names:
        told = events.happened(ask.api, ["clearflow.task.*"], since)
        names = [e.name async for e in told if e.payload.get("id") == task]
    assert names == ["clearflow.task.published", "clearflow.task.tagged", "clearflow.task.archived"]


def test_what_ends_task_init_is_one_line_and_a_hint(site, laptop: Laptop):
    process = start(
        site,
        laptop,
        "from clearflow import Task\nTask.init('Digits', 'nowhere')",
        PREFECT_API_URL="http://127.0.0.1:9/api",
    )
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "does not answer" in said
    assert "hint: " in said
    assert "Traceback" not in said
    assert task_of(said) == ""


FAR = """
import far
from clearflow import Task
task = Task.init("Digits", "far")
task.execute_remotely("q")
print("far says", far.value(), flush=True)
"""


@pytest.mark.timeout(180)
async def test_a_package_that_is_installed_from_elsewhere_comes_along(
    site, ask, laptop: Laptop, tmp_path: Path
):
    """As `pip install -e` leaves it: a note where packages are, and the files in their folder."""
    source = tmp_path / "libraries" / "far"
    (source / "src" / "far").mkdir(parents=True)
    (source / "src" / "far" / "__init__.py").write_text("def value():\n    return 42\n")
    note = tmp_path / "installed" / "far-1.0.dist-info"
    note.mkdir(parents=True)
    (note / "METADATA").write_text("Metadata-Version: 2.1\nName: far\nVersion: 1.0\n")
    (note / "top_level.txt").write_text("far\n")
    url = f'{{"url": "file://{source}", "dir_info": {{"editable": true}}}}'
    (note / "direct_url.json").write_text(url)
    site.agent("q")
    paths = f"{note.parent}:{source / 'src'}"
    task, _, _ = run(site, laptop, FAR, PYTHONPATH=paths)
    shutil.rmtree(tmp_path / "libraries")
    ended = await ask.ended(task)
    assert ended.status(ask.api.clock.now()) == "completed", await ask.report(task)
    assert "far says 42" in "\n".join(await ask.console(task))


async def test_ctrl_c_while_it_is_sent_leaves_nothing_half_queued(site, ask, laptop: Laptop):
    await pools.ensure_queue(ask.api, site.pool, "q")
    (laptop.root / "data.bin").write_bytes(os.urandom(12_000_000))
    (laptop.root / "train.py").write_text("print('never')\n")
    words = ["task", "run", "--pool", site.pool, "train.py", "--queue", "q"]
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "clearflow", *words],
        cwd=laptop.root,
        env=dict(site.env),
        stderr=subprocess.PIPE,
        text=True,
    )
    before = await ask.api.post("/artifacts/count", PIECES)

    async def sending() -> bool:
        return await ask.api.post("/artifacts/count", PIECES) > before

    await wait_until_async(sending, what="the first pieces to arrive")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    where = {"work_pools": {"name": {"any_": [site.pool]}}}
    assert await ask.api.post("/flow_runs/count", where) == 0


PIECES = {"artifacts": {"type": {"any_": ["clearflow-blob"]}}}

OLD = """
# /// script
# dependencies = ["sqlalchemy<1.4"]
# ///
import sqlalchemy
from clearflow import Task
task = Task.init("Digits", "old")
engine = sqlalchemy.create_engine("sqlite://")
print("old", sqlalchemy.__version__, engine.execute("select 41 + 1").scalar(), flush=True)
"""


@pytest.mark.timeout(180)
async def test_a_project_with_an_old_sqlalchemy_runs_as_it_is(site, ask, laptop: Laptop):
    site.agent("q")
    (laptop.root / "train.py").write_text(OLD)
    task = sent(site, laptop, "old")
    ended = await ask.ended(task)
    assert ended.status(ask.api.clock.now()) == "completed", await ask.report(task)
    assert re.search(r"old 1\.3\.\d+ 42", "\n".join(await ask.console(task)))
