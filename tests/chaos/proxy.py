"""A small TCP proxy in front of the server, one for each agent, whose connections can be cut."""

import asyncio
import contextlib
import enum
import struct
from collections.abc import Iterator
from socket import SO_LINGER, SOL_SOCKET


class Line(enum.Enum):
    """What becomes of the bytes."""

    PASS = "pass"
    HOLD = "hold"  # they wait, and arrive later
    HOLE = "hole"  # they are lost, as is the connection once the line is back


class Proxy:
    """Passes connections on to a port of this machine; `port` is its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._mode = Line.PASS
        self._passing = asyncio.Event()
        self._passing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.reset()

    @property
    def passes(self) -> bool:
        return self._mode is Line.PASS

    def reset(self) -> None:
        """Break every connection, as a firewall does that forgets them."""
        for writer in list(self._writers):
            with contextlib.suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    @contextlib.contextmanager
    def cut(self, mode: Line) -> Iterator[None]:
        """Let nothing through inside the block."""
        self._mode = mode
        self._passing.clear()
        try:
            yield
        finally:
            if mode is Line.HOLE:
                self.reset()
            self._mode = Line.PASS
            self._passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        out = None
        try:
            await self._passing.wait()
            if writer.transport.is_closing():
                return
            back, out = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(out)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, out))
                group.create_task(self._pump(back, writer))
        except* (OSError, asyncio.CancelledError):
            pass  # asyncio's streams want no cancelled task
        finally:
            for each in (writer, out):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort() if each.is_closing() else each.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self._mode is Line.HOLE:
                continue
            await self._passing.wait()
            if isinstance(reader.exception(), ConnectionResetError):
                break  # who sent it has reset the connection: it is not sent again
            writer.write(data)
            await writer.drain()
        # The other side has nothing more to say either: HTTP and its like close both ways.
        if self._mode is Line.HOLE:
            await self._passing.wait()
        raise ConnectionResetError
