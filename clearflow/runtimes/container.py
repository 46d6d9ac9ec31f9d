"""The container of one task, as its supervisor drives it: by Docker's Engine and by its tether.

The tether is the container's first process. It is told over a socket what to run, says how that
ended, and ends with everything in the container when the line to it breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clearflow.errors import ClearflowError
from clearflow.runtimes import docker, wire
from clearflow.runtimes.docker import Engine
from clearflow.runtimes.rundir import RunDir
from clearflow.words.lifecycle import Exit

SOCKET = "c"
"""The name of the tether's socket in the folder of a claim."""

_DRAIN = 5.0  # seconds for the last of the output of a container that has ended


class Container:
    """A container with nothing in it but its tether, until `run` is called.

    `close` leaves nothing of it.
    """

    def __init__(self, engine: Engine, rundir: RunDir) -> None:
        self._engine, self._rundir = engine, rundir
        self._id: str | None = None
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._ready, self._over = asyncio.Event(), asyncio.Event()
        self._ended: asyncio.Future[Exit] | None = None
        self._copied = threading.Event()
        self._turn = asyncio.Lock()
        self.output = -1
        self.control, other = socket.socketpair()
        other.close()  # a script does not know of its supervisor

    async def listen(self) -> None:
        """Be there for the tether, whose socket is mounted into the container."""
        with self._rundir.socket_address(SOCKET) as address:
            self._server = await asyncio.start_unix_server(self._tethered, address)
        # The container's user may be another; nobody else can enter the folder it lies in.
        (self._rundir.path / SOCKET).chmod(0o666)

    async def start(self, config: Mapping[str, Any]) -> None:
        """Have it run, and wait until its tether is there.

        Raises ClearflowError, with the container's last words, when it ends before that.
        """
        loop = asyncio.get_running_loop()
        self._id = await self._call(self._engine.create, config)
        stream = await self._call(self._engine.attach, self._id)
        self.output, write = os.pipe()

        def copy() -> None:
            docker.copy(stream, write)
            self._copied.set()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._over.set)

        threading.Thread(target=copy, daemon=True, name="clearflow-output").start()
        await self._call(self._engine.start, self._id)
        await self._first(self._ready.wait(), self._over.wait())
        if not self._ready.is_set():
            said = os.read(self.output, 1 << 16).decode(errors="replace").strip()
            last = said.splitlines()[-1] if said else "it said nothing"
            raise ClearflowError(f"the container ended before the task could start: {last}")

    async def run(self, words: Sequence[str], folder: str) -> None:
        """Run a program in it."""
        self._ended = asyncio.get_running_loop().create_future()
        self._tell({"run": list(words), "folder": folder})

    async def wait(self) -> Exit:
        """How the program ended; one whose container was taken away was killed."""
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    async def send(self, number: int) -> None:
        self._tell({"signal": int(number)})

    async def kill(self) -> None:
        if self._id is not None:
            await self._call(self._engine.remove, self._id)
        self._lost()

    async def freeze(self, frozen: bool) -> None:
        if self._id is not None:
            await self._call(self._engine.pause, self._id, frozen)

    async def close(self) -> None:
        """Let go of the tether, and see that the container ends and is removed."""
        if self._writer is not None:
            self._writer.close()
        if self._server is not None:
            self._server.close()
        if self._id is not None:
            # What has ended by itself has sent all of its output, and is removed by the Engine.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN if self._ready.is_set() else 0):
                    await self._over.wait()
            with contextlib.suppress(ClearflowError):
                await self._call(self._engine.remove, self._id)
        self._lost()

    async def _call(self, what: Callable[..., Any], *arguments: Any) -> Any:
        """One request of the Engine, at its turn; once begun it is waited for."""
        async with self._turn:
            asked = asyncio.ensure_future(asyncio.to_thread(what, *arguments))
            try:
                return await asyncio.shield(asked)
            except asyncio.CancelledError:
                made = (await asyncio.gather(asked, return_exceptions=True))[0]
                if what == self._engine.create and isinstance(made, str):
                    self._id = made
                raise

    async def _first(self, *waiting: Awaitable[Any]) -> None:
        tasks = [asyncio.ensure_future(each) for each in waiting]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _tethered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:
            writer.close()  # somebody in the container plays tether
            return
        self._writer = writer
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                message = wire.decode(line)
                if "ready" in message:
                    self._ready.set()
                elif "exited" in message:
                    self._end(Exit(code=int(message["exited"])))
                elif "killed" in message:
                    name = _name(int(message["killed"]))
                    memory = name == "SIGKILL" and bool(message.get("out_of_memory"))
                    self._end(Exit(signal=name, out_of_memory=memory))
        self._lost()
        writer.close()

    def _tell(self, message: dict[str, Any]) -> None:
        if self._writer is None or self._writer.is_closing():
            self._lost()
            return
        with contextlib.suppress(OSError):
            self._writer.write(wire.encode(message))

    def _end(self, ended: Exit) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(ended)

    def _lost(self) -> None:
        """The line to the tether broke: the kernel has ended the container."""
        self._end(Exit(signal="SIGKILL"))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def mount(source: Path | str, target: str, *, writable: bool = False) -> dict[str, Any]:
    """A folder or file of this machine in a container, as the Engine wants it described."""
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": not writable,
    }
