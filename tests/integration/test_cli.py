"""The command line as people and programs use it, against a real server."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clearflow._prefect import runs
from clearflow.words import lifecycle, models
from clearflow.words.models import Run
from tests.support.line import Bench, bench
from tests.support.server import PrefectServer, free_port
from tests.support.waiting import wait_until

BOLD = re.compile("\x1b\\[[01]m")
ODD = 'it\'s a/b "q" 50% 🚀'


class Cli:
    """`clearflow` in a process of its own."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "clearflow", *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def __call__(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """What it says; it has to end with this code, and never with a traceback."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=100)
        done = subprocess.CompletedProcess(words, process.returncode, out, err)
        assert done.returncode == code, f"{words}: {done.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json").stdout)

    def error(self, *words: str, code: int) -> str:
        """The error of a command that prints nothing else."""
        done = self(*words, code=code)
        assert done.stdout == ""
        first, *rest = done.stderr.splitlines()
        assert first.startswith("error: ")
        assert all(line.startswith("hint: ") for line in rest)
        assert len(rest) <= 1
        return first

    def on_terminal(self, *words: str, columns: int = 80, answer: str = "") -> tuple[int, str]:
        """The exit code and the screen of a command on a terminal."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe(sys.executable, [sys.executable, "-m", "clearflow", *words], self.env)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.write(terminal, answer.encode())
        screen = b""
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 65536):
                screen += part
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


@pytest.fixture
async def here(server: PrefectServer, unique: Callable[[str], str]) -> AsyncIterator[Bench]:
    async with bench(server, unique) as made:
        yield made


@pytest.fixture
async def cpu(here: Bench) -> models.Queue:
    return await here.queue("cpu")


@pytest.fixture
def cli(prefect_env: dict[str, str], here: Bench) -> Cli:
    return Cli({**prefect_env, "CLEARFLOW_POOL": here.pool, "COLUMNS": ""})


# -- queues ----------------------------------------------------------------------------------


async def test_the_life_of_a_queue_of_any_name(cli: Cli, here: Bench) -> None:
    assert f"made the queue {ODD!r}" in cli("queue", "create", ODD, "--limit", "2").stderr
    assert "exists already" in cli.error("queue", "create", ODD, code=5)
    (found,) = (q for q in cli.json("queue", "ls") if q["queue"] == ODD)
    assert (found["limit"], found["waiting"], found["paused"]) == (2, 0, False)
    cli("queue", "limit", ODD, "5")
    cli("queue", "pause", ODD)
    shown = cli.json("queue", "show", ODD)
    assert (shown["limit"], shown["paused"], shown["line"]) == (5, True, [])
    cli("queue", "resume", ODD)
    cli("queue", "limit", ODD, "none")
    shown = cli.json("queue", "show", ODD)
    assert (shown["limit"], shown["paused"]) == (None, False)
    assert "is not a number" in cli.error("queue", "limit", ODD, "many", code=2)
    assert ODD in cli("queue", "ls").stdout
    cli("queue", "delete", ODD)
    assert "there is no queue" in cli.error("queue", "show", ODD, code=3)


async def test_moving(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    await here.queue(ODD)
    t = await here.tasks(cpu, "abcd")
    done = cli("queue", "move", t["c"].id, t["d"].id[:10], "--front")
    assert (done.stdout, done.stderr) == ("", "moved 2 tasks\n")
    assert await here.line(cpu) == list("cdab")
    cli("queue", "move", t["c"].id, "--after", t["a"].id)
    assert await here.line(cpu) == list("dacb")
    cli("queue", "move", t["d"].id, "--to", ODD)
    (moved,) = cli.json("queue", "show", ODD)["line"]
    assert (moved["task_id"], moved["number"], moved["name"]) == (t["d"].id, 1, "d")
    assert moved["run_id"] != t["d"].id
    # It has its id still.
    cli("queue", "move", t["d"].id, "--before", t["a"].id)
    assert await here.line(cpu) == list("dacb")
    assert "say where to, once" in cli.error("queue", "move", t["a"].id, code=2)
    assert "say one place" in cli.error("queue", "move", t["a"].id, "--up", "--down", code=2)
    assert "no queue 'no'" in cli.error("queue", "move", t["a"].id, "--to", "no", code=3)
    assert "is not the id" in cli.error("queue", "move", "a", "--front", code=3)


async def test_a_task_that_has_just_started(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    run = await here.task(cpu, "a")
    await here.claim(run, "host:0")
    said = cli.error("queue", "move", run.id, "--front", code=5)
    assert said == f"error: task {run.id[:8]} (a) has just been started by host:0"
    said = cli.error("task", "dequeue", run.id, code=5)
    assert said == f"error: task {run.id[:8]} (a) has just been started by host:0"


async def test_clear_asks(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    await here.tasks(cpu, "abc")
    assert "Nobody is there to ask" in cli.error("queue", "clear", "cpu", code=2)
    code, screen = cli.on_terminal("queue", "clear", "cpu", answer="n\n")
    assert (code, await here.line(cpu)) == (1, list("abc"))
    assert "Take all waiting tasks out of the queue 'cpu'? [y/N]" in screen
    code, screen = cli.on_terminal("queue", "clear", "cpu", answer="y\n")
    assert (code, await here.line(cpu)) == (0, [])
    assert "took 3 tasks out of 'cpu'" in screen
    await here.tasks(cpu, "de")
    assert "took 2 tasks" in cli("queue", "clear", "cpu", "--yes").stderr


async def test_delete_refuses_or_moves(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    await here.tasks(cpu, "ab")
    assert "2 tasks wait in the queue 'cpu'" in cli.error("queue", "delete", "cpu", code=5)
    done = cli("queue", "delete", "cpu", "--move-to", "gpu")
    assert done.stderr == "deleted the queue 'cpu'; 2 tasks went to 'gpu'\n"
    assert await here.line(gpu) == ["a", "b"]


# -- tasks -----------------------------------------------------------------------------------


async def test_listing_and_showing_tasks(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    nasty = "new\nline \x1b[31mred\x1b[0m"
    a = await here.task(cpu, ODD, tags=["project:P / 🚀", "user:me"], parameters={"lr": 0.1})
    await here.task(cpu, nasty, tags=["user:me"])
    rows = cli.json("task", "ls", "--queue", "cpu", "--pool", here.pool)
    assert [r["name"] for r in rows] == [nasty, ODD]
    (row,) = cli.json("task", "ls", "--project", "P / 🚀", "--pool", here.pool)
    assert (row["task_id"], row["status"], row["owner"]) == (a.id, "queued", "me")
    assert row["parameters"] == {"lr": 0.1}
    assert cli.json("task", "ls", "--status", "failed,draft", "--pool", here.pool) == []
    said = cli.error("task", "ls", "--status", "done", code=2)
    assert said == "error: 'done' is no status"
    shown = cli.json("task", "show", a.id[:9])
    assert shown["place"] == {"number": 1, "of": 2, "why": "no agent serves this queue"}
    assert [s["words"] for s in shown["history"]] == ["queued by tester"]
    plain = cli("task", "ls", "--pool", here.pool, "--limit", "1")
    assert len(plain.stdout.splitlines()) == 2
    assert "\x1b" not in plain.stdout
    assert "--limit 0 lists all" in plain.stderr
    facts = cli("task", "show", a.id).stdout
    assert "1 of 2" in facts
    assert "no agent serves this queue" in facts
    assert "there is no task" in cli.error(
        "task", "show", "00000000-0000-0000-0000-000000000000", code=3
    )


@pytest.mark.parametrize("columns", [60, 80, 200])
async def test_tables_fit_the_terminal(
    cli: Cli, here: Bench, cpu: models.Queue, columns: int
) -> None:
    run = await here.task(
        cpu, "a very long name " * 8, tags=["user:somebody.with.a.long.name@example.com"]
    )
    for words in (["queue", "ls"], ["queue", "show", "cpu"], ["task", "ls", "--pool", here.pool]):
        code, screen = cli.on_terminal(*words, columns=columns)
        assert code == 0
        lines = [line.rstrip("\r") for line in BOLD.sub("", screen).split("\n")]
        assert max(map(len, lines)) <= columns, screen
        assert "a v" in screen
    assert run.id[:8] in screen
    assert run.id not in screen


async def test_taking_out_and_queueing_again(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    t = await here.tasks(cpu, "ab")
    assert "took 2 tasks" in cli("task", "dequeue", t["a"].id, t["b"].id).stderr
    assert await here.line(cpu) == []
    cli("task", "enqueue", t["b"].id)
    assert await here.line(cpu) == ["b"]
    cli("task", "enqueue", t["a"].id, "--queue", "gpu")
    assert await here.line(gpu) == ["a"]
    assert "waits in 'cpu' already" in cli.error("task", "enqueue", t["b"].id, code=5)
    assert "no queue 'no'" in cli.error("task", "enqueue", t["b"].id, "--queue", "no", code=3)


async def test_aborting(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abcd")
    await here.claim(t["b"])
    done = cli("task", "abort", t["a"].id, t["b"].id)
    assert done.stderr == "1 task told to stop; --wait waits for the end\naborted 1 task\n"
    assert "has ended: aborted" in cli.error("task", "abort", t["a"].id, code=5)
    assert "name tasks" in cli.error("task", "abort", code=2)
    assert "name tasks" in cli.error("task", "abort", t["c"].id, "--queue", "cpu", code=2)
    assert "Nobody is there to ask" in cli.error("task", "abort", "--queue", "cpu", code=2)
    assert "aborted 2 tasks" in cli("task", "abort", "--queue", "cpu", "--yes").stderr
    assert "no task fits" in cli("task", "abort", "--queue", "cpu", "--yes").stderr
    shown = cli.json("task", "show", t["c"].id)
    assert shown["status"] == "aborted"
    assert shown["aborted_by"]


async def ends(here: Bench, run: Run, code: int) -> None:
    note = await here.claim(run)
    await runs.propose(here.api, run.id, lifecycle.running(note))
    await runs.propose(here.api, run.id, lifecycle.outcome(lifecycle.Exit(code=code), note))


async def test_waiting(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abc")
    await ends(here, t["a"], 0)
    await ends(here, t["b"], 3)
    assert cli("task", "wait", t["a"].id).stdout == f"{t['a'].id}  completed  a\n"
    both = cli("task", "wait", t["a"].id, t["b"].id, code=1)
    assert f"{t['b'].id}  failed  b\n" in both.stdout
    late = cli("task", "wait", t["c"].id, "--timeout", "0.5", code=1)
    assert late.stderr == "error: not all of them have ended after 0.5 s\n"


def sockets(pid: int) -> list[str]:
    """The open sockets of a process."""
    found = []
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(handle))
    return [name for name in found if name.startswith("socket:")]


async def test_an_interrupted_wait(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    run = await here.task(cpu, "a")
    with cli.start("task", "wait", run.id) as waiting:
        wait_until(lambda: sockets(waiting.pid), what="it to talk to the server")
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=20)
    assert (waiting.returncode, out, err) == (130, "", "interrupted\n")


async def test_a_reader_that_goes_away(cli: Cli, here: Bench, cpu: models.Queue) -> None:
    from clearflow import clock
    from clearflow._prefect import logs
    from clearflow._prefect.logs import Line

    run = await here.task(cpu, "a")
    for _ in range(4):
        await logs.send(
            here.api, run.id, [Line(f"line {n} " + "x" * 300, clock.now()) for n in range(500)]
        )
    with cli.start("task", "logs", run.id) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        assert reading.stdout.readline().startswith("line")
        reading.stdout.close()
        reading.wait(30)
        assert reading.stderr.read() == ""
    last = cli("task", "logs", run.id, "--last", "2", "--json").stdout.splitlines()
    assert len(last) == 2
    assert json.loads(last[1])["logger"] == "console"


# -- servers that do not answer as they should --------------------------------------------------


def elsewhere(cli: Cli, url: str) -> Cli:
    return Cli({**cli.env, "PREFECT_API_URL": url})


async def test_no_server(cli: Cli) -> None:
    said = elsewhere(cli, f"http://127.0.0.1:{free_port()}/api").error("queue", "ls", code=4)
    assert "does not answer" in said
    nowhere = Cli({k: v for k, v in cli.env.items() if k != "PREFECT_API_URL"})
    assert "no Prefect server is configured" in nowhere.error("queue", "ls", code=4)
    assert "is not the URL" in elsewhere(cli, "nonsense").error("queue", "ls", code=4)


async def test_a_wrong_key(cli: Cli, tmp_path: Path, template_database: Path) -> None:
    settings = {"PREFECT_SERVER_API_AUTH_STRING": "admin:secret"}
    with PrefectServer(tmp_path / "s", template=template_database, settings=settings) as closed:
        there = elsewhere(cli, closed.url)
        assert "does not accept this key" in there.error("queue", "ls", code=5)
        there.env["PREFECT_API_AUTH_STRING"] = "admin:guess"
        assert "does not accept this key" in there.error("queue", "ls", code=5)
        there.env["PREFECT_API_AUTH_STRING"] = "admin:secret"
        there("queue", "create", "cpu")
        assert [q["queue"] for q in there.json("queue", "ls")] == ["default", "cpu"]


@contextlib.contextmanager
def pretending(server: PrefectServer, answers: Mapping[str, tuple[int, Any]]) -> Iterator[str]:
    """The address of something that answers as the server does, but for some paths."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            for path, (status, data) in answers.items():
                if self.path.endswith(path):
                    return self.say(status, json.dumps(data).encode())
            request = urllib.request.Request(
                server.url.removesuffix("/api") + self.path,
                data=body,
                headers={"Content-Type": "application/json"},
                method=self.command,
            )
            with urllib.request.urlopen(request) as got:
                self.say(got.status, got.read())

        def say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=proxy.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{proxy.server_port}/api"
    proxy.shutdown()
    proxy.server_close()
    serving.join()


@pytest.mark.parametrize("version", ["3.6.1", "3.9.0", "4.0.0rc1"])
async def test_another_prefect(cli: Cli, server: PrefectServer, version: str) -> None:
    with pretending(server, {"/admin/version": (200, version)}) as url:
        done = elsewhere(cli, url)("queue", "ls")
    assert done.stderr == (
        f"warning: the server is Prefect {version}, and clearflow is made for >=3.8.8,<3.9\n"
    )
    assert "QUEUE" in done.stdout


async def test_a_prefect_that_lacks_something(cli: Cli, server: PrefectServer) -> None:
    answers = {"/queues/filter": (404, {"detail": "Not Found"})}
    with pretending(server, answers) as url:
        said = elsewhere(cli, url).error("queue", "ls", code=1)
    assert "this Prefect server does not know POST /work_pools/" in said


async def test_something_that_is_no_prefect(cli: Cli, server: PrefectServer) -> None:
    with pretending(server, {"": (200, None)}) as url:
        assert "is no Prefect server" in elsewhere(cli, url).error("queue", "ls", code=4)


async def test_a_deployment_that_is_deleted_while_its_tasks_wait(
    cli: Cli, here: Bench, cpu: models.Queue
) -> None:
    run = await here.task(cpu, "a")
    await here.api.delete(f"/deployments/{here.deployment['id']}")
    done = cli("queue", "move", run.id, "--front", code=3)
    assert done.stderr.splitlines()[0] == f"error: there is no task {run.id}"
    assert "whoever deletes a deployment deletes the tasks that wait for it" in done.stderr


# -- agents, and the shell ---------------------------------------------------------------------


async def test_an_agent_that_is_not_there(cli: Cli) -> None:
    for verb in ("show", "stop", "pause", "resume"):
        assert "there is no agent 'ghost:0'" in cli.error("agent", verb, "ghost:0", code=3)
    assert "there is no agent" in cli("agent", "ls", "--pool", cli.env["CLEARFLOW_POOL"]).stderr
    assert "cannot name an agent" in cli.error("agent", "start", "--name", "a/b", code=2)


async def test_an_agent_in_the_background(cli: Cli) -> None:
    name = f"back-{os.getpid()}:0"
    start = ("agent", "start", "--detach", "--name", name, "--queue", ODD)
    said = cli.error(*start, "--gpus", "none", code=1)
    assert f"there is no queue {ODD!r}" in said
    done = cli(*start, "--create-queue", "--gpus", "none")
    assert "started in the background: process" in done.stderr
    pid = int(done.stderr.split("process ")[1].split(",")[0])
    (seen,) = (a for a in cli.json("agent", "ls") if a["name"] == name)
    assert (seen["queues"], seen["status"], seen["pid"]) == ([ODD], "running", pid)
    (row,) = (q for q in cli.json("queue", "ls") if q["queue"] == ODD)
    assert row["agents"] == [name]
    cli("agent", "pause", name)
    wait_until(lambda: cli.json("agent", "show", name)["status"] == "paused", what="a pause")
    cli("agent", "resume", name)
    wait_until(lambda: cli.json("agent", "show", name)["status"] == "running", what="a resume")
    cli("agent", "stop", name)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the agent to end")


async def test_completion(cli: Cli, unique: Callable[[str], str]) -> None:
    name = unique("complete")
    cli("queue", "create", name)
    cli.env |= {
        "_CLEARFLOW_COMPLETE": "complete_bash",
        "COMP_WORDS": f"clearflow queue show {name[:9]}",
        "COMP_CWORD": "3",
    }
    assert cli().stdout.split() == [name]
    cli.env["PREFECT_API_URL"] = f"http://127.0.0.1:{free_port()}/api"
    assert cli().stdout.split() == []
