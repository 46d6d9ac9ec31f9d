"""What a task asks of its machine, changed by hand; and tasks that are published and archived."""

from pathlib import Path

import pytest

from clearflow._prefect import events
from tests.integration.test_task_api import ask_task, laptop, run, start, task_of
from tests.support.git import Laptop

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
