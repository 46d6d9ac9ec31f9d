"""Scripts in Docker containers, by a real Engine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clearflow._prefect import claims, pools, runs
from tests.support.agents import LOSING, AgentProcess, Client, Site, client, opened
from tests.support.commands import command
from tests.support.docker import IMAGE, DockerEngine, registry
from tests.support.gates import closed, open_gate
from tests.support.git import Laptop
from tests.support.server import PrefectServer
from tests.support.waiting import wait_until

HELPER = "def half(x):\n    return x / 2\n"
TRAIN = """
import os, sys
from lib.helper import half
print("in a container", os.path.exists("/clearflow"), os.getcwd())
print("arguments", sys.argv[1:])
print("half", half(3))
print("server", sorted(k for k in os.environ if "PREFECT" in k))
print("user", os.getuid())
open("written.txt", "w").write("here")
sys.exit(int(os.environ.get("CODE", "0")))
"""
WAITS = "import threading\nprint('here', flush=True)\nthreading.Event().wait()\n"
STUBBORN = """
import signal
signal.signal(signal.SIGINT, lambda *_: print("not yet"))
signal.signal(signal.SIGTERM, lambda *_: print("never"))
print("here", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def engine(docker_engine: DockerEngine) -> Iterator[DockerEngine]:
    """The Engine; a test must leave nothing of its containers."""
    yield docker_engine
    wait_until(lambda: not docker_engine.containers(), 10, what="all containers to be gone")
    wait_until(lambda: not docker_engine.mounts(), 10, what="their mounts to be gone")
    networks = {n["Name"] for n in docker_engine.api.networks()}
    assert networks == {"host", "none"}
    assert docker_engine.api.volumes()["Volumes"] in (None, [])


@pytest.fixture
def project(remotes: tuple[Path, str], tmp_path: Path) -> Path:
    """A working copy with changes that nobody has committed."""
    laptop = Laptop(tmp_path, *remotes)
    laptop.write("train.py", b"print('as it was pushed')\n")
    laptop.save()
    laptop.push()
    laptop.write("train.py", TRAIN.encode())
    laptop.write("lib/helper.py", HELPER.encode())
    return laptop.root


@pytest.fixture
def start(site: Site, engine: DockerEngine) -> Callable[..., AgentProcess]:
    """Start an agent with Docker, of the test image by default."""

    def start(*queues: str, env: dict[str, str] | None = None, **options: Any) -> AgentProcess:
        told = {"docker": IMAGE, **options}
        return site.agent(*queues, env={"DOCKER_HOST": engine.host, **(env or {})}, **told)

    return start


def clearflow(
    site: Site, *words: str, folder: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """The command line."""
    return command({**site.env, **env}, *words, folder=folder)


def send(site: Site, folder: Path, script: str, *words: str) -> str:
    """Put a script into the queue `q`; the id of its task."""
    home = str(folder.parent / "laptop-home")
    command = ["task", "run", "--pool", site.pool, script, "--queue", "q", "--", *words]
    done = clearflow(site, *command, folder=folder, CLEARFLOW_HOME=home)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def send_with(
    ask: Client, folder: Path, script: str, *words: str, **variables: object
) -> str:
    """The same, with further job variables; before there is an agent."""
    await pools.ensure_queue(ask.api, ask.site.pool, "q")
    task = send(ask.site, folder, script, *words)
    run = await ask.run(task)
    await runs.patch(ask.api, run.id, job_variables={**run.job_variables, **variables})
    return task


async def test_a_script_with_uncommitted_changes_runs_in_a_container(site, ask, project, start):
    start("q")
    task = send(site, project, "train.py", "--lr", "0.1", "two words")
    ended = await ask.ended(task)
    assert ended.state.type == "COMPLETED", await ask.report(task)
    assert await ask.console(task, "console") == [
        "in a container True /clearflow/code",
        "arguments ['--lr', '0.1', 'two words']",
        "half 1.5",
        "server []",
        f"user {os.getuid()}",
    ]
    texts = [s.note.text.split(" ")[0] for s in await ask.history(task)]
    assert texts == ["queued", "claimed", "running", "exit"]
    assert not list(site.folder.glob("home/agents/*/*/code"))


async def test_the_exit_code_is_the_scripts(site, ask, project, start):
    task = await send_with(ask, project, "train.py", env={"CODE": "7"})
    start("q")
    ended = await ask.ended(task)
    assert (ended.state.type, ended.note.text) == ("FAILED", "exit code 7"), await ask.report(task)


async def test_the_task_is_itself_inside(site, ask, project, start):
    """`Task.init` finds its supervisor over the socket."""
    (project / "inside.py").write_text(
        "from clearflow import Task\n"
        "task = Task.init(project_name='P', task_name='N')\n"
        "print('lr', task.connect({'lr': 0.1})['lr'])\n"
        "print('me', task.id)\n"
    )
    start("q")
    task = send(site, project, "inside.py")
    ended = await ask.ended(task)
    assert ended.state.type == "COMPLETED", await ask.report(task)
    assert await ask.console(task, "console") == ["lr 0.1", f"me {task}"]
    assert [v["lr"] for v in ended.parameters.values() if isinstance(v, dict)] == [0.1]


DATASET = """
import os
from clearflow import Dataset
from clearflow.errors import Refused
os.makedirs("data", exist_ok=True)
open("data/a", "w").write("one")
made = Dataset.create("inside", "Docker")
try:
    made.add_files("/etc/hostname")
except Refused as error:
    print("refused", error)
made.add_files("data")
made.finalize(auto_upload=True)
folder = made.get_local_copy()
print("copy", folder.startswith("/clearflow/"), open(folder + "/a").read())
mine = made.get_mutable_local_copy("mine")
open(mine + "/a", "w").write("two")
print("own", os.path.abspath(mine) == os.path.abspath("mine"), flush=True)
"""


async def test_datasets_are_made_and_read_in_a_container(site, ask, project, start):
    (project / "train.py").write_text(DATASET)
    start("q")
    task = send(site, project, "train.py")
    run = await ask.ended(task)
    console = "\n".join(await ask.console(task))
    assert run.state.type == "COMPLETED", console
    assert "refused /etc/hostname is inside of the container alone" in console
    assert "copy True one" in console
    assert "own True" in console


async def test_ctrl_c_is_the_first_thing_that_an_abort_sends(site, ask, project, start):
    (project / "waits.py").write_text(
        "import threading\ntry:\n    print('here', flush=True)\n    threading.Event().wait()\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    start("q")
    task = send(site, project, "waits.py")
    await ask.until_printed(task, "here")
    await claims.abort(ask.api, task, "ada")
    ended = await ask.ended(task)
    assert (ended.state.type, ended.note.by) == ("CANCELLED", "ada"), await ask.report(task)
    assert "interrupted" in await ask.console(task, "console")


async def test_what_does_not_listen_is_killed(site, ask, project, start):
    (project / "stubborn.py").write_text(STUBBORN)
    task = await send_with(ask, project, "stubborn.py", grace_seconds=1)
    start("q")
    await ask.until_printed(task, "here")
    await claims.abort(ask.api, task, "ada")
    ended = await ask.ended(task)
    assert ended.state.type == "CANCELLED", await ask.report(task)
    assert (await ask.console(task, "console"))[-2:] == ["not yet", "never"]


async def test_out_of_memory_is_told_apart(site, ask, project, start):
    (project / "greedy.py").write_text("print('here', flush=True)\nx = bytearray(500_000_000)\n")
    task = await send_with(ask, project, "greedy.py", docker_args="--memory 64m")
    start("q")
    ended = await ask.ended(task)
    found = (ended.state.type, ended.note.text)
    assert found == ("CRASHED", "killed: out of memory"), await ask.report(task)


async def test_a_program_that_kills_itself_crashes(site, ask, project, start):
    (project / "kills.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    start("q")
    task = send(site, project, "kills.py")
    ended = await ask.ended(task)
    assert ended.note.text == "killed by SIGSEGV", await ask.report(task)


ONCE = (
    "import pathlib, threading\n"
    "mark = pathlib.Path('/marks/mark')\n"
    "again = mark.exists()\n"
    "mark.touch()\n"
    "print('here', flush=True)\n"
    "if not again:\n    threading.Event().wait()\n"
)


async def test_no_container_outlives_its_supervisor(site, ask, project, start, tmp_path, engine):
    (project / "once.py").write_text(ONCE)
    mount = f"-v {tmp_path}:/marks"
    task = await send_with(ask, project, "once.py", docker_args=mount)
    agent = start("q")
    await ask.until_printed(task, "here")
    (supervisor,) = agent.processes("cf-supervisor")
    supervisor.kill()
    ended = await ask.ended(task)
    assert (ended.state.type, ended.note.attempt) == ("COMPLETED", 2), await ask.report(task)


async def test_everything_killed_at_once_leaves_nothing(
    site, ask, project, start, tmp_path, engine
):
    """Agent, launcher and supervisor: the container ends by itself, another agent takes over."""
    (project / "once.py").write_text(ONCE)
    task = await send_with(ask, project, "once.py", docker_args=f"-v {tmp_path}:/marks")
    agent = start("q", env=LOSING)
    await ask.until_printed(task, "here")
    assert len(engine.containers()) == 1
    agent.lose_power()
    wait_until(lambda: not engine.containers(), 10, what="the container to end with them")
    start("q", env=LOSING)
    ended = await ask.ended(task)
    assert (ended.state.type, ended.note.attempt) == ("COMPLETED", 2), await ask.report(task)


async def test_an_agent_removes_what_its_last_life_has_left(
    site, ask, project, start, tmp_path, engine
):
    """Even a container whose tether is stopped, which nothing but the Engine can end."""
    (project / "once.py").write_text(ONCE)
    task = await send_with(ask, project, "once.py", docker_args=f"-v {tmp_path}:/marks")
    agent = start("q", name="again")
    await ask.until_printed(task, "here")
    (container,) = engine.containers()
    engine.api.pause(container["Id"])
    agent.lose_power()
    assert len(engine.containers()) == 1
    again = start("q", name="again")
    assert "lost" not in again.said()
    ended = await ask.ended(task)
    assert (ended.state.type, ended.note.attempt) == ("COMPLETED", 2), await ask.report(task)


async def test_a_task_outlives_its_agent(site, ask, project, start, tmp_path):
    (project / "waits.py").write_text("print('here', flush=True)\nopen('/marks/go').read()\n")
    closed(tmp_path / "go")
    task = await send_with(ask, project, "waits.py", docker_args=f"-v {tmp_path}:/marks:ro")
    agent = start("q", name="upgraded")
    await ask.until_printed(task, "here")
    agent.kill()
    start("q", name="upgraded").wait_for("found waits.py")
    open_gate(tmp_path / "go")
    ended = await ask.ended(task)
    assert (ended.state.type, ended.note.attempt) == ("COMPLETED", 1), await ask.report(task)


async def test_arguments_reach_the_container(site, ask, project, start, tmp_path):
    (project / "looks.py").write_text(
        "import os, resource\n"
        "print(os.environ['FROM_AGENT'], os.environ['FROM_TASK'], os.environ['PASSED'])\n"
        "print(os.getuid(), os.getgid(), sorted(os.listdir('/sys/class/net')) != ['lo'])\n"
        "print(open('/data/x').read(), os.access('/data/x', os.W_OK))\n"
        "print(os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "data/x").write_text("content")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp/pytest-of-root"):
            folder.chmod(0o755)
    asked = f"-v {tmp_path}/data:/data:ro -e FROM_TASK='two words' --user 1234:99 --shm-size=32m"
    task = await send_with(
        ask, project, "looks.py", docker_args=f"{asked} --ulimit nofile=512:1024"
    )
    start(
        "q",
        env={"PASSED": "on"},
        docker_args="--network=host -e FROM_AGENT=one -e PASSED --cpus 1.5",
    )
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    assert await ask.console(task, "console") == [
        "one two words on",
        "1234 99 True",
        "content False",
        str(32 << 20),
        "(512, 1024)",
    ]


async def test_the_engine_is_asked_for_the_tasks_gpus(site, ask, project, start):
    """This machine has none: the Engine says that nothing here could give it one."""
    start("q", gpus=["0"])
    task = send(site, project, "train.py")
    ended = await ask.ended(task)
    assert ended.state.type == "FAILED", await ask.report(task)
    assert "could not select device driver" in ended.note.text


async def test_a_setup_script_runs_in_the_container(site, ask, project, start):
    task = await send_with(ask, project, "train.py", setup_script="echo 'setting up'; echo > made")
    start("q")
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    assert (await ask.console(task, "console"))[0] == "setting up"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"docker_args": "--privileged"}, "--privileged is for agents that were started with it"),
        ({"docker_args": "--cap-add ALL"}, "the Docker argument '--cap-add' is not supported"),
        ({"docker_args": "-e HOME"}, "-e HOME has no value"),
        ({"setup_script": "exit 3"}, "the set-up script ended with exit code 3"),
        ({"image": "no.such.registry.invalid/x:1"}, "could not be pulled"),
    ],
)
async def test_what_cannot_start_is_told_in_a_line(site, ask, project, start, variables, said):
    task = await send_with(ask, project, "train.py", **variables)
    start("q")
    ended = await ask.ended(task)
    assert ended.state.type == "FAILED", await ask.report(task)
    assert said in ended.note.text


async def test_an_image_that_no_agent_allows_waits_and_says_so(site, ask, project, start):
    """Another agent may allow it; the default image needs no permission."""
    forbidden = await send_with(ask, project, "train.py", image="other:1")
    start("q", docker_allow=["python:*"])
    allowed = send(site, project, "train.py")
    assert (await ask.ended(allowed)).state.type == "COMPLETED", await ask.report(allowed)
    assert await ask.status(forbidden) == "queued"
    shown = clearflow(site, "task", "show", forbidden)
    assert "no agent allows the image other:1" in shown.stdout


async def test_a_task_may_ask_for_a_process(site, ask, project, start):
    (project / "where.py").write_text("import os\nprint(os.path.exists('/clearflow'))\n")
    task = await send_with(ask, project, "where.py", runtime="process")
    start("q")
    await ask.ended(task)
    assert await ask.console(task, "console") == ["False"]


async def test_an_agent_without_docker_leaves_it_alone(site, ask, project):
    task = await send_with(ask, project, "train.py", runtime="docker")
    site.agent("q")
    other = send(site, project, "train.py")
    await ask.ended(other)
    assert await ask.status(task) == "queued"


async def test_a_flow_is_refused_before_it_starts(site, ask, start):
    start("q")
    task = await ask.enqueue("endings.py:good", "q", runtime="docker")
    ended = await ask.ended(task)
    assert ended.note.text == "a decorated flow does not run in Docker", await ask.report(task)


async def test_nothing_is_taken_while_docker_does_not_answer(site, ask, project, start, engine):
    agent = start("q")
    engine.signal(signal.SIGSTOP)
    try:
        task = send(site, project, "train.py")
        agent.wait_for("I take no tasks until it does")
        assert await ask.status(task) == "queued"
    finally:
        engine.signal(signal.SIGCONT)
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    agent.wait_for("Docker answers again")


async def test_the_command_line_starts_such_an_agent(site, ask, project, engine):
    task = await send_with(ask, project, "train.py", image=IMAGE)
    words = ["--queue", "q", "--pool", site.pool, "--idle-timeout", "2", "--docker", "other:1"]
    engine.api.tag(IMAGE, "other", "1")
    try:
        words += ["--docker-allow", "clearflow-test:*", "--docker-args", "--shm-size 1m"]
        done = clearflow(site, "agent", "start", *words, DOCKER_HOST=engine.host)
    finally:
        engine.api.remove_image("other:1")
    assert done.returncode == 0, done.stderr
    assert (await ask.run(task)).state.type == "COMPLETED", await ask.report(task)


@pytest.mark.parametrize(
    ("host", "image", "said"),
    [
        ("unix:///nowhere/docker.sock", IMAGE, "Docker does not answer at unix:///nowhere"),
        ("tcp://127.0.0.1:1", IMAGE, "has to be on this machine"),
        (None, "no.such.registry.invalid/x:1", "could not be pulled"),
    ],
)
def test_a_missing_engine_or_image_is_said_at_once(site, engine, host, image, said):
    words = ["--queue", "q", "--create-queue", "--pool", site.pool, "--docker", image]
    done = clearflow(site, "agent", "start", *words, DOCKER_HOST=host or engine.host)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


TICKS = """
print("here", flush=True)
open("/marks/go").read()
"""


@pytest.fixture
def lonely_site(
    fresh_server: PrefectServer, tmp_path: Path, unique: Callable[[str], str]
) -> Iterator[Site]:
    """A site with a server of its own, which may be killed."""
    env = fresh_server.env(home=tmp_path / "prefect-home")
    with opened(fresh_server.url, env, tmp_path, unique("pool"), scripts=True) as site:
        yield site


async def test_an_exclusive_task_is_frozen_while_its_machine_is_cut_off(
    lonely_site, fresh_server, engine, project, tmp_path
):
    closed(tmp_path / "go")
    (project / "waits.py").write_text(TICKS)
    async with client(lonely_site) as ask:
        mount = f"-v {tmp_path}:/marks"
        task = await send_with(ask, project, "waits.py", exclusive=True, docker_args=mount)
        lonely_site.agent("q", docker=IMAGE, env={**LOSING, "DOCKER_HOST": engine.host})
        await ask.until_printed(task, "here")
        fresh_server.kill()
        wait_until(lambda: engine.states() == ["paused"], 60, what="the task to be frozen")
        fresh_server.start()
        wait_until(lambda: engine.states() == ["running"], 60, what="the task to go on")
        open_gate(tmp_path / "go")
        ended = await ask.ended(task)
        assert ended.state is not None
        assert (ended.state.type, ended.note.attempt) == ("COMPLETED", 1), await ask.report(task)


async def test_an_image_that_is_not_here_is_pulled(site, ask, project, start, engine):
    with registry(engine) as pulled:
        task = await send_with(ask, project, "train.py", image=pulled)
        start("q")
        ended = await ask.ended(task)
    assert ended.state.type == "COMPLETED", await ask.report(task)
    said = [line for line in await ask.console(task, "clearflow") if "the image" in line]
    assert said[0] == f"Pulling the image {pulled}"
    assert said[1].startswith(f"Pulled the image {pulled} in ")


async def test_the_environment_is_built_in_the_image_once(site, ask, project, start):
    """By uv, with the image's own Python; the second task finds it there."""
    (project / "requirements.txt").write_text("six==1.16.0\n")
    (project / "uses.py").write_text("import six, sys\nprint(six.__version__, sys.prefix)\n")
    start("q", docker_args="--network host")
    built = []
    for _ in range(2):
        task = send(site, project, "uses.py")
        assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
        assert await ask.console(task, "console") == ["1.16.0 /clearflow/environment"]
        said = await ask.console(task, "clearflow")
        built.append([line for line in said if line.startswith("In a container of ")])
    assert built == [[f"In a container of {IMAGE}; it is kept for others of this image"], []]


async def test_an_environment_that_cannot_be_built_is_told(site, ask, project, start, engine):
    (project / "requirements.txt").write_text("six==99.99.99\n")
    start("q", docker_args="--network host")
    task = send(site, project, "train.py")
    ended = await ask.ended(task)
    assert ended.state.type == "FAILED", await ask.report(task)
    assert "six==99.99.99" in ended.note.text
