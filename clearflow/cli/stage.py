"""What a demonstration stands on: a server, a home, agents in processes of their own.

Everything that was started here is stopped and removed at the end, whatever happened in between,
unless all went well and it is to be kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from clearflow._prefect import claims, local_server, pools, setting_up
from clearflow._prefect.connection import Connection, connection
from clearflow._prefect.http import Api
from clearflow.cli.output import say
from clearflow.cli.start import write_own_profile
from clearflow.cli.steps import step, undisturbed, working
from clearflow.errors import ClearflowError, Unreachable
from clearflow.settings import settings

_HOME = "CLEARFLOW_HOME"
_STARTING, _STOPPING = 60.0, 10.0


class Stage:
    """A server and a queue that nobody serves but the agents which are started here.

    Uses the configured server, with a queue of its own there; where none is configured it starts
    one, temporary unless it is to be kept.
    """

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.own_server = False
        self.queue = "cpu"
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self.tasks: list[str] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as failed:
            failed.push(self._leave)
            self._set()
            failed.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(kind, error, trace)

    def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.keep = self.keep and kind is None
        with undisturbed():
            self._stack.close()

    def _set(self) -> None:
        self._stack.callback(_restore, dict(os.environ))
        where = _configured()
        self.home = settings().home_path if self.keep else self._temporary_home()
        os.environ[_HOME] = str(self.home)
        settings.cache_clear()
        if where is None:
            self.own_server = True
            where = self._start_server()
        else:
            self.queue = f"quickstart-{secrets.token_hex(3)}"
        self.where = where
        queues = (*setting_up.QUEUES, self.queue) if self.own_server else (self.queue,)
        made = self.ask(lambda api: setting_up.make(api, settings().pool, dict.fromkeys(queues)))
        step(f"clearflow queue create {self.queue}", f"new queues: {', '.join(made) or 'none'}")
        self._stack.callback(self._clear)

    def ask(self, question: Callable[[Api], Awaitable[list[str]]]) -> list[str]:
        async def ask() -> list[str]:
            async with Api(self.where) as api:
                return await question(api)

        return asyncio.run(ask())

    def _temporary_home(self) -> Path:
        home = Path(tempfile.mkdtemp(prefix="clearflow-quickstart-"))
        self._stack.callback(shutil.rmtree, home, ignore_errors=True)
        return home

    def _start_server(self) -> Connection:
        folder = self.home / "server"
        for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_PROFILE"):
            os.environ.pop(name, None)
        if not self.keep:
            os.environ["PREFECT_HOME"] = str(self.home / "prefect")
        self._stack.callback(lambda: self.keep or local_server.stop(folder))
        with working("Starting a Prefect server") as waiting:
            server = local_server.start(folder, register_blocks=self.keep, waiting=waiting)
        os.environ["PREFECT_API_URL"] = server.url
        what = "with its data kept" if self.keep else "temporary"
        step("clearflow up", f"a Prefect server, {what}: {server.ui_url}")
        where = Connection(server.url)
        if self.keep:
            write_own_profile(where)
        return where

    def start_agents(self, count: int) -> None:
        """Agents of the queue, each a process of its own; returns when all of them serve."""
        # On a server that others use too, their agents have names as well.
        batch = "" if self.own_server else f"-{secrets.token_hex(2)}"
        for number in range(count):
            name = f"quickstart{batch}:{number}"
            self.agents[name] = self._agent(name)
            step(f"clearflow agent start --queue {self.queue}", name)
        started = time.monotonic()
        with working("Waiting for the agents") as waiting:
            while not all(" serves " in self._log(name).read_text() for name in self.agents):
                waited = time.monotonic() - started
                waiting(waited)
                self.check()
                if waited > _STARTING:
                    raise ClearflowError(f"the agents did not start in {_STARTING:g} s")
                time.sleep(0.05)

    def check(self) -> None:
        """Raises ClearflowError when an agent has ended."""
        for name, process in self.agents.items():
            if process.poll() is not None:
                said = self._log(name).read_text(errors="replace").strip().splitlines()
                raise ClearflowError(f"agent {name} has ended: {said[-1] if said else 'silently'}")

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name.replace(':', '-')}.log"

    def _agent(self, name: str) -> subprocess.Popen[bytes]:
        options = [f"--queue={self.queue}", f"--name={name}", "--gpus=none"]
        self._log(name).parent.mkdir(parents=True, exist_ok=True)
        with self._log(name).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "clearflow", "agent", "start", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for this process, which then ends them in order.
                start_new_session=True,
            )

    def _clear(self) -> None:
        if self.keep:
            return
        if not self.own_server:
            with contextlib.suppress(ClearflowError):
                self.ask(self._abort_all)
        self._stop_agents()
        _kill_all_of(self.home)
        if not self.own_server:
            with contextlib.suppress(ClearflowError):
                self.ask(self._delete_queue)

    async def _abort_all(self, api: Api) -> list[str]:
        for task in self.tasks:
            with contextlib.suppress(ClearflowError):
                await claims.abort(api, task, "quickstart")
        return []

    async def _delete_queue(self, api: Api) -> list[str]:
        await pools.delete_queue(api, settings().pool, self.queue)
        return []

    def _stop_agents(self) -> None:
        for _ in range(2):  # the second signal has them give their tasks back instead of waiting
            for process in self.agents.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        deadline = time.monotonic() + _STOPPING
        for process in self.agents.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()


def _configured() -> Connection | None:
    """The configured server, if there is one that answers."""
    try:
        where = connection()
    except Unreachable:
        return None

    async def ask() -> None:
        async with Api(where, give_up_after=2.0) as api:
            await setting_up.check(api)

    try:
        asyncio.run(ask())
    except Unreachable:
        say(f"The configured server, {where.url}, does not answer: going on without it.")
        return None
    step(f"clearflow init --url {where.url}", "a server is configured already")
    return where


def _restore(environ: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)
    settings.cache_clear()


def _kill_all_of(home: Path) -> None:
    """End what agents of this home have left behind: supervisors outlive them on purpose.

    The server is not among them, it was started with another environment.
    """
    marker = f"{_HOME}={home}".encode()
    for _ in range(50):
        found = [pid for pid in _pids() if marker in _environ(pid).split(b"\0")]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _pids() -> list[int]:
    names = [entry.name for entry in Path("/proc").glob("[0-9]*")]
    return [int(name) for name in names if int(name) != os.getpid()]


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
