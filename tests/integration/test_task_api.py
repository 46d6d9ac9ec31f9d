"""`Task`: one line in a script, and the rest of it runs somewhere else. As its users live it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clearflow._prefect import pools, runs
from tests.support import apart, commands
from tests.support.agents import LOSING, QUICK, AgentProcess, Client, Site
from tests.support.git import Laptop, git
from tests.support.waiting import wait_until_async

FIRST_LINE = """
from clearflow import Task
task = Task.init("Digits", "first line", tags=["film"])
print("before", Task.running_locally(), flush=True)
task.execute_remotely("q")
import helper
print("trained", helper.double(21), task.name, Task.current_task() == task, flush=True)
"""
MIDDLE = """
from clearflow import Task
task = Task.init("Digits", "middle")
params = task.connect({"lr": 0.5, "model": {"depth": 3}})
for epoch in range(3):
    print("epoch", epoch, "here" if Task.running_locally() else "there", params["lr"], flush=True)
    params["lr"] /= 2
    task.execute_remotely("q")
"""
ARGPARSE = """
import argparse
from clearflow import Task
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--names", nargs="*", default=[])
parser.add_argument("--fast", action="store_true")
args = parser.parse_args()
task = Task.init("Digits", "argparse")
print("args", args.lr, args.names, args.fast, flush=True)
"""
HOLDERS = """
import dataclasses, enum
from clearflow import Task

class Kind(enum.Enum):
    small = 1
    large = 2

@dataclasses.dataclass
class Model:
    depth: int = 2
    kind: Kind = Kind.small

@dataclasses.dataclass(frozen=True)
class Config:
    rate: float = 0.1
    model: Model = dataclasses.field(default_factory=Model)

class Plain:
    size = 3

task = Task.init("Digits", "holders")
numbers = task.connect({"lr": 0.1, "layers": [1, 2], "deep": {"on": False}})
config = task.connect(Config(), name="Config")
plain = task.connect(Plain(), name="Plain") if False else Plain()
print("dict", numbers, flush=True)
print("dataclass", config, flush=True)
"""
PYDANTIC = """
# /// script
# dependencies = ["pydantic<3"]
# ///
import pydantic
from clearflow import Task

class Config(pydantic.BaseModel):
    rate: float = 0.1
    name: str = "a"

task = Task.init("Digits", "pydantic")
config = task.connect(Config())
print("model", config.rate, config.name, flush=True)
"""
OLDER = """
import sys
from clearflow import Task
task = Task.init("Digits", "older", task_type="training")
values = task.connect({"lr": 0.1})
task.add_tags(["x"])
kind = task.get_user_properties().get("type", "training")
print(sys.version_info[:2], values, task.get_tags(), kind, task.name, flush=True)
"""
CLICK = """
# /// script
# dependencies = ["click"]
# ///
import click
from clearflow import Task

@click.command()
@click.option("--rate", type=float, default=0.5)
@click.option("--name", default="a")
def main(rate, name):
    Task.init("Digits", "click")
    print("click", rate, name, flush=True)

main()
"""


@pytest.fixture
def site(shared_site: Site, shared_agent: AgentProcess) -> Site:
    """All share a pool and the agent of its queue `q`."""
    return shared_site


@pytest.fixture
async def ask(shared: Client) -> Client:
    return shared


@pytest.fixture
def laptop(remotes: tuple[Path, str], tmp_path: Path) -> Laptop:
    """A working copy whose first commit is pushed."""
    made = Laptop(tmp_path, *remotes)
    made.write("README", b"digits\n")
    made.save()
    made.push()
    made.write("helper.py", b"def double(x):\n    return 2 * x\n")
    return made


def start(site, laptop: Laptop, script: str, *words: str, **env: str) -> subprocess.Popen[str]:
    """A script, run as a person does who has clearflow installed."""
    (laptop.root / "train.py").write_text(script)
    return subprocess.Popen(
        [sys.executable, "train.py", *words],
        cwd=laptop.root,
        env={
            **site.env,
            "CLEARFLOW_HOME": str(laptop.root.parent / "laptop-home"),
            "CLEARFLOW_POOL": site.pool,
            **env,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def run(site, laptop: Laptop, script: str, *words: str, **env: str) -> tuple[str, str, str]:
    """Run a script to its end: the id of its task, what it printed, and what was said."""
    process = start(site, laptop, script, *words, **env)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return task_of(err), out, err


def sent(site, laptop: Laptop, name: str) -> str:
    """`train.py`, sent by the command: the id of its task."""
    words = ["task", "run", "--pool", site.pool, "train.py", "--queue", "q", "--name", name]
    home = str(laptop.root.parent / "laptop-home")
    done = commands.command({**site.env, "CLEARFLOW_HOME": home}, *words, folder=laptop.root)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def task_of(err: str) -> str:
    return err.partition("clearflow: task ")[2][:36]


def ask_task(site, code: str) -> Any:
    """What somebody's program finds out: the JSON that it prints."""
    program = f"import json\nfrom clearflow import Task\n{code}"
    env = {**site.env, "CLEARFLOW_POOL": site.pool}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agent_elsewhere(site, laptop: Laptop) -> AgentProcess:
    """An agent that shares nothing with the laptop but the server.

    It has a mount namespace in which the laptop's folders are empty; where this user may have none
    they are deleted.
    """
    hidden = [laptop.root, laptop.root.parent / "laptop-home", laptop.remote]
    found = [folder for folder in hidden if folder.is_dir()]
    if not apart.possible():
        shutil.rmtree(laptop.root, ignore_errors=True)  # a test may have done so
    return site.agent("q", program=apart.program(found))


async def lines(ask, task: str) -> list[str]:
    return await ask.console(task, "console")


async def test_the_first_line_sends_the_rest_of_the_script_away(own_site, own_ask, laptop):
    await pools.create_queue(own_ask.api, own_site.pool, "q")
    task, out, err = run(own_site, laptop, FIRST_LINE)
    shutil.rmtree(laptop.root)  # the agent shares nothing with it but the server
    agent_elsewhere(own_site, laptop)
    assert out == "before True\n"
    assert f"clearflow: task {task} waits in q: http" in err
    ended = await own_ask.ended(task)
    assert ended.state.type == "COMPLETED", await own_ask.report(task)
    said = ["before True", "before False", "trained 42 first line True"]
    assert await lines(own_ask, task) == said
    assert (ended.task_id, ended.project, ended.name) == (task, "Digits", "first line")
    assert "film" in ended.tags
    assert "clearflow:here" not in ended.tags


async def test_in_the_middle_of_a_loop_the_script_starts_again_there(own_site, own_ask, laptop):
    await pools.create_queue(own_ask.api, own_site.pool, "q")
    task, out, _ = run(own_site, laptop, MIDDLE)
    agent_elsewhere(own_site, laptop)
    assert out == "epoch 0 here 0.5\n"
    ended = await own_ask.ended(task)
    assert ended.state.type == "COMPLETED", await own_ask.report(task)
    there = ["epoch 0 there 0.5", "epoch 1 there 0.25", "epoch 2 there 0.125"]
    assert await lines(own_ask, task) == ["epoch 0 here 0.5", *there]
    assert ended.parameters["General"] == {"lr": 0.5, "model": {"depth": 3}}


async def test_never_locally(own_site, own_ask, laptop):
    await pools.create_queue(own_ask.api, own_site.pool, "q")
    (laptop.root / "train.py").write_text(FIRST_LINE)
    task = sent(own_site, laptop, "far")
    agent_elsewhere(own_site, laptop)
    assert (await own_ask.ended(task)).state.type == "COMPLETED", await own_ask.report(task)
    assert await lines(own_ask, task) == ["before False", "trained 42 far True"]


async def changed_clone(site, ask, laptop, script, changes, *words):
    """Run a script here, clone it, change parameters, and have an agent run the clone."""
    task, out, err = run(site, laptop, script, *words)
    assert (await ask.ended(task)).state.type == "COMPLETED", err
    code = (
        f"task = Task.clone({task!r}, name='changed')\n"
        f"task.update_parameters({changes!r})\n"
        "Task.enqueue(task, queue_name='q')\n"
        "print(json.dumps(task.id))"
    )
    clone = ask_task(site, code)
    ended = await ask.ended(clone)
    assert ended.state.type == "COMPLETED", await ask.report(clone)
    assert ended.labels["clearflow.parent"] == task
    return out.splitlines(), await lines(ask, clone)


async def test_a_changed_clone_of_an_argparse_script(site, ask, laptop):
    changes = {"Args/lr": "0.25", "Args/names": ["c"], "Args/fast": True}
    here, there = await changed_clone(site, ask, laptop, ARGPARSE, changes, "--names", "a", "b")
    assert here == ["args 0.1 ['a', 'b'] False"]
    assert there == ["args 0.25 ['c'] True"]


async def test_a_changed_clone_of_a_script_with_dictionaries_and_dataclasses(site, ask, laptop):
    changes = {
        "lr": "0.5", "General/deep/on": "true", "General/layers": "[3]",
        "Config/rate": 0.9, "Config/model/depth": 7, "Config/model/kind": "large",
    }  # fmt: skip
    here, there = await changed_clone(site, ask, laptop, HOLDERS, changes)
    assert here[0] == "dict {'lr': 0.1, 'layers': [1, 2], 'deep': {'on': False}}"
    assert there[0] == "dict {'lr': 0.5, 'layers': [3], 'deep': {'on': True}}"
    inner = "Model(depth=7, kind=<Kind.large: 2>)"
    assert there[1] == f"dataclass Config(rate=0.9, model={inner})"


async def test_a_changed_clone_of_a_script_with_pydantic(site, ask, laptop):
    changes = {"rate": "0.75", "name": "b"}
    here, there = await changed_clone(site, ask, laptop, PYDANTIC, changes)
    assert (here, there) == (["model 0.1 a"], ["model 0.75 b"])


async def test_a_changed_clone_of_a_click_script(site, ask, laptop):
    here, there = await changed_clone(site, ask, laptop, CLICK, {"Args/rate": "0.75"}, "--name=z")
    assert (here, there) == (["click 0.5 z"], ["click 0.75 z"])


async def test_a_task_under_an_older_python(site, ask, laptop):
    header = '# /// script\n# requires-python = "==3.9.*"\n# ///\n'
    (laptop.root / "train.py").write_text(header + OLDER)
    task = sent(site, laptop, "old")
    assert (await ask.ended(task, timeout=100)).state.type == "COMPLETED", await ask.report(task)
    assert await lines(ask, task) == ["(3, 9) {'lr': 0.1} ['x'] training old"]


@pytest.mark.parametrize(
    ("last", "status", "why"),
    [
        ("", "COMPLETED", "exit code 0"),
        ("raise ValueError('no digits')", "FAILED", "ValueError: no digits"),
        ("import sys; sys.exit(3)", "FAILED", "exit code 3"),
        ("import os; os._exit(0)", "CRASHED", "went away without a word"),
        ("import os, signal; os.kill(os.getpid(), 9)", "CRASHED", "went away without a word"),
        ("import os, signal; os.kill(os.getpid(), 2)", "CANCELLED", "aborted by"),
        ("task.mark_failed('not good enough')", "FAILED", "not good enough"),
    ],
)
async def test_how_a_program_ends_here(site, ask, laptop, last, status, why):
    script = f"from clearflow import Task\ntask = Task.init('Digits', 'ends')\nprint('x')\n{last}\n"
    _, err = start(site, laptop, script).communicate(timeout=60)
    ended = await ask.ended(task_of(err))
    assert (ended.state.type, why in ended.note.text) == (status, True), ended.note
    assert (await lines(ask, task_of(err)))[0] == "x"


async def test_a_laptop_that_dies_is_noticed(own_site, own_ask, laptop):
    own_site.agent("q", env=LOSING)
    waits = "import signal\nsignal.pause()"
    script = f"from clearflow import Task\nTask.init('Digits', 'dies')\n{waits}"
    process = start(own_site, laptop, script, **LOSING)
    seen = await wait_until_async(lambda: begun(own_ask, "dies"), 60, what="the task")
    for pid in (companion_of(process.pid), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    ended = await own_ask.ended(seen.task_id, timeout=60)
    assert ended.state.type == "CRASHED"
    assert "nothing was heard of" in ended.note.text


def companion_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(c) for c in children if Path(f"/proc/{c}/comm").read_text() == "cf-companion\n")


async def begun(ask, name: str):
    """The program that is a task here, once it runs."""
    running = {"type": {"any_": ["RUNNING"]}}
    where = {"state": running, "name": {"any_": [name]}, "tags": {"all_": ["clearflow:here"]}}
    return await anext(runs.find(ask.api, where), None)


async def test_a_program_here_can_be_aborted(site, ask, laptop):
    script = """
from clearflow import Task
task = Task.init('Digits', 'aborted')
task.register_abort_callback(lambda: print('saving', flush=True))
import threading
threading.Event().wait()
"""
    process = start(site, laptop, script, **QUICK)
    seen = await wait_until_async(lambda: begun(ask, "aborted"), 60, what="the task")
    ask_task(site, f"Task.get_task({seen.task_id!r}).abort(); print('null')")
    out, _ = process.communicate(timeout=60)
    assert out == "saving\n"
    ended = await ask.ended(seen.task_id)
    assert ended.state.type == "CANCELLED"
    assert ended.note.text.startswith("aborted by")


def command(site, *words: str) -> subprocess.CompletedProcess[str]:
    """`clearflow …`, as a person types it."""
    return commands.command({**site.env, "CLEARFLOW_POOL": site.pool}, *words)


async def test_a_draft_of_a_script_is_made_changed_and_queued_by_commands(site, ask, laptop):
    script = laptop.root / "train.py"
    script.write_text(ARGPARSE)
    made = command(site, "task", "create", str(script), "--name", "drafted", "--", "--lr", "3")
    assert made.returncode == 0, made.stderr
    assert await ask.status(made.stdout.strip()) == "draft"
    changed = ["-p", "Args/fast=true", "-p", 'Args/names=["z"]', "--queue", "q", "--json"]
    cloned = command(site, "task", "clone", made.stdout.strip()[:8], "--name", "copy", *changed)
    assert cloned.returncode == 0, cloned.stderr
    seen = json.loads(cloned.stdout)
    assert (seen["name"], seen["status"] in {"queued", "starting"}) == ("copy", True), seen
    assert (await ask.ended(seen["id"])).state.type == "COMPLETED", await ask.report(seen["id"])
    assert await lines(ask, seen["id"]) == ["args 3.0 ['z'] True"]
    words = ["--name", "new name", "--tag", "kept", "--comment", "the best", "--json"]
    named = json.loads(command(site, "task", "set", seen["id"], *words).stdout)
    assert (named["name"], named["tags"], named["comment"]) == ("new name", ["kept"], "the best")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["clone", "beefbeef"], 3, "no task has an id that starts with 'beefbeef'"),
        (["set", "beefbeef"], 2, "nothing to change"),
        (["set", "beefbeef", "-p", "lr"], 2, "'lr' is not NAME=VALUE"),
        (["create", "nowhere.py"], 2, "there is no file nowhere.py"),
    ],
)
def test_what_cannot_be_cloned_changed_or_made_is_told_in_one_line(site, words, code, said):
    done = command(site, "task", *words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_task_is_created_from_a_repository(site, ask, laptop):
    laptop.write("inner/far.py", b"import sys\nprint('far', sys.argv[1:])\n")
    laptop.save()
    laptop.push()
    url = git(laptop.root, "remote", "get-url", "origin")
    code = (
        f"task = Task.create('Far', 'far', repo={url!r}, script='inner/far.py',"
        " argparse_args=[('lr', 0.1)], packages=[], tags='made')\n"
        "task.enqueue(task, 'q')\n"
        "print(json.dumps([task.id, task.status, task.get_tags(), task.get_project_name()]))"
    )
    task, status, tags, project = ask_task(site, code)
    assert (status in {"queued", "starting", "running"}, tags, project) == (True, ["made"], "Far")
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    assert await lines(ask, task) == ["far ['--lr', '0.1']"]


def test_tasks_are_found_and_described(site, laptop):
    code = """
made = []
for number, tags in enumerate([["a"], ["a", "b"], ["c"]]):
    task = Task.create("Found", f"model {number}", script=SCRIPT, packages=[], tags=tags)
    task.set_parameters({"General/lr": number, "Args/x": None})
    task.set_user_properties(accuracy=number / 2)
    task.set_progress(10 * number)
    made.append(task.id)
names = lambda tasks: [task.name for task in tasks]
get = lambda **more: names(Task.get_tasks(project_name="Found", **more))
found = Task.get_task(project_name="Found", task_name="model 1")
print(json.dumps({
    "all": get(),
    "regex": get(task_name="[12]$"),
    "any": get(tags=["b", "c"]),
    "every": get(tags=["__$all", "a", "b"]),
    "not": get(tags=["a", "-b"]),
    "drafts": get(task_filter={"status": ["created"]}),
    "none": get(task_filter={"status": ["completed"]}),
    "latest": Task.get_task(project_name="Found").name,
    "ids": names(Task.get_tasks(task_ids=made[:2])),
    "one": [found.get_parameters(), found.get_parameter("lr", cast=True),
            found.get_user_properties(), found.get_progress()],
}))
""".replace("SCRIPT", repr(str(laptop.root / "helper.py")))
    found = ask_task(site, code)
    assert found == {
        "all": ["model 2", "model 1", "model 0"],
        "regex": ["model 2", "model 1"],
        "any": ["model 2", "model 1"],
        "every": ["model 1"],
        "not": ["model 0"],
        "drafts": ["model 2", "model 1", "model 0"],
        "none": [],
        "latest": "model 2",
        "ids": ["model 0", "model 1"],
        "one": [{"General/lr": "1", "Args/x": ""}, 1, {"accuracy": 0.5}, 10],
    }


def test_a_task_that_nobody_runs_can_be_ended_and_deleted(site, laptop):
    code = """
from clearflow.errors import NotFound, Refused
task = Task.create("Ends", script=SCRIPT, packages=[])
task.mark_failed("a bad idea")
said = [task.status, task._see()["reason"]]
task.delete()
try:
    task.status
except NotFound:
    said.append("gone")
try:
    Task.get_task(project_name="Ends")
except NotFound as error:
    said.append(error.message)
print(json.dumps(said))
""".replace("SCRIPT", repr(str(laptop.root / "helper.py")))
    status, reason, gone, message = ask_task(site, code)
    assert (status, gone, message) == ("failed", "gone", "there is no task of project 'Ends'")
    assert "a bad idea" in reason
