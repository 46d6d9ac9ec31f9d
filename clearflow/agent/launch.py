"""From a claim to a running supervisor, and the agent's line to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from clearflow._prefect.connection import Connection
from clearflow.agent.slots import Used
from clearflow.errors import ClearflowError
from clearflow.runtimes import process, wire
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.words.models import Needs

LAUNCHER = "clearflow.supervisor.launcher"


class Launcher:
    """The process that forks supervisors; started when needed, and again when it dies.

    `more` is what its supervisors will want beside processes: the runtime docker, and on agents of
    the queue services what schedules and triggers run there.
    """

    def __init__(self, connection: Connection, *more: str) -> None:
        self._connection, self._more = connection, more
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Have it ready before the first task comes."""
        async with self._lock:
            await self._ready()

    async def launch(self, rundir: RunDir) -> None:
        """Have a supervisor for a claim. Raises ClearflowError when none comes up."""
        async with self._lock:
            for _ in range(3):
                sock = await self._ready()
                loop = asyncio.get_running_loop()
                try:
                    await loop.sock_sendall(sock, os.fsencode(rundir.path))
                    if await loop.sock_recv(sock, 64):
                        return
                except OSError:
                    pass
                self._drop()
                # It died between the request and its answer: a supervisor may have come up.
                if await self._came_up(rundir):
                    return
        raise ClearflowError("no supervisor could be started")

    async def _came_up(self, rundir: RunDir) -> bool:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            if not rundir.path.is_dir() or rundir.has_supervisor():
                return True
            await asyncio.sleep(0.05)
        return False

    async def _ready(self) -> socket.socket:
        if self._sock is not None and self._process and self._process.poll() is None:
            return self._sock
        self._drop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        env = {**os.environ, process.CLAIM: process.UNMARKED}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env["PREFECT_API_URL"] = self._connection.url
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - takes a millisecond
                [sys.executable, "-m", LAUNCHER, str(theirs.fileno()), *self._more],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=env,
                # Ctrl-C in the agent's terminal is for the agent.
                start_new_session=True,
            )
        if await asyncio.get_running_loop().sock_recv(ours, 64) != b"ready":
            raise ClearflowError("the launcher did not start")
        self._sock = ours
        return ours

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the launcher; supervisors go on."""
        self._drop()


class Running:
    """A running task as its agent sees it: what it holds, and the line to its supervisor."""

    def __init__(self, rundir: RunDir, job: Job) -> None:
        self.rundir, self.job = rundir, job
        self.used = Used(Needs.parse(job.variables), job.gpus)
        self._writer: asyncio.StreamWriter | None = None
        self._watching: asyncio.Task[None] | None = None

    async def watch(self, ended: Callable[[Running, str | None], None], lease: float) -> None:
        """Follow the supervisor from now on; `ended(self, outcome)` is called once.

        The outcome is None when the supervisor went away without telling one.
        """
        self._watching = asyncio.create_task(self._watch(ended, lease))

    async def _watch(self, ended: Callable[[Running, str | None], None], lease: float) -> None:
        outcome: str | None = None
        try:
            reader, self._writer = await self._connect()
            if lease:
                self.tell(lease=lease)
            while line := await reader.readline():
                message = wire.decode(line)
                if "ended" in message:
                    outcome = str(message["ended"])
                    break
        except OSError:
            pass
        finally:
            if self._writer is not None:
                self._writer.close()
        ended(self, outcome)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The supervisor's socket, which appears a moment after its start."""
        deadline = time.monotonic() + 10.0
        while True:
            try:
                with self.rundir.socket_address() as address:
                    return await asyncio.open_unix_connection(address)
            except OSError:
                gone = not self.rundir.path.is_dir()
                dead = time.monotonic() > deadline and not self.rundir.has_supervisor()
                if gone or dead:
                    raise
                await asyncio.sleep(0.01)

    def tell(self, **message: object) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.write(wire.encode(message))

    def leave(self) -> None:
        """Let go without ending the task."""
        if self._watching is not None:
            self._watching.cancel()
