"""What an agent costs that has nothing to do: memory, processor time, requests.

Agent and launcher are left alone for five minutes. Memory is what the kernel calls proportional:
pages that these processes share among each other, being forked, count once. Requests are counted
by a proxy in front of the server, through which all of them go, the event stream as one. Beside
it at the same time, through a proxy of its own, Prefect's `process` worker at its defaults.

Bars: 200 MB, 3 s, 20 requests; stretch 120 MB, 1 s, 8 requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.bench import Bench, Report, Row, bench, queue, stock_pool
from benchmarks.costs import cpu_seconds, memory_mb

_REQUEST = re.compile(rb"^([A-Z]+) (\S+) HTTP/1\.1\r$", re.MULTILINE)
_SETTLE = 15.0  # seconds after its start in which an agent still gets to know its surroundings


@dataclass
class Cost:
    """What a process and all it has started cost."""

    memory_mb: float
    cpu_seconds: float
    requests: int


class Proxy:
    """Passes everything on to the server, and notes the requests."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self.requests: list[str] = []
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}{self._path}"
        try:
            yield self
        finally:
            server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, up: bool) -> None:
            with contextlib.suppress(OSError):
                while chunk := await source.read(1 << 16):
                    if up:
                        self.requests += [
                            f"{method.decode()} {path.decode()}"
                            for method, path in _REQUEST.findall(chunk)
                        ]
                    sink.write(chunk)
                    await sink.drain()
            sink.close()

        # Connections that are open at the end are cancelled, which is nobody's error.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(pump(reader, back, True), pump(there, writer, False))


def run(seconds: float = 300.0) -> Report:
    with bench() as made:
        ours, stock, paths = asyncio.run(_measure(made, seconds))
    minutes = f"{seconds / 60:g} min"
    share = seconds / 300.0

    def beside(value: float, unit: str) -> str:
        return f"stock worker: {value:.3g} {unit}"

    rows = [
        Row(
            f"idle agent over {minutes}: memory with its launcher",
            f"{ours.memory_mb:.0f} MB",
            "≤ 200 MB",
            ours.memory_mb <= 200,
            "120 MB",
            beside(stock.memory_mb, "MB"),
        ),
        Row(
            f"idle agent over {minutes}: processor time",
            f"{ours.cpu_seconds:.2f} s",
            "≤ 3 s",
            ours.cpu_seconds <= 3 * share,
            "1 s",
            beside(stock.cpu_seconds, "s"),
        ),
        Row(
            f"idle agent over {minutes}: requests",
            f"{ours.requests}",
            "≤ 20",
            ours.requests <= 20 * share,
            "8",
            beside(stock.requests, "requests"),
        ),
    ]
    return Report(
        "idle_agent", rows, {"clearflow": vars(ours), "stock": vars(stock), "asked": paths}
    )


async def _measure(made: Bench, seconds: float) -> tuple[Cost, Cost, list[str]]:
    async with made.api() as api:
        await queue(api, "quiet")
        await stock_pool(api, "stock")
    async with Proxy(made.server.url).serving() as ours, Proxy(made.server.url).serving() as stock:
        agent = await asyncio.to_thread(lambda: made.agent("quiet", PREFECT_API_URL=ours.url))
        worker = await asyncio.to_thread(
            lambda: made.stock_worker("stock", PREFECT_API_URL=stock.url)
        )
        await asyncio.sleep(_SETTLE)
        pids = {agent.pid: ours, worker.pid: stock}
        before = {pid: (cpu_seconds(pid), len(proxy.requests)) for pid, proxy in pids.items()}
        await asyncio.sleep(seconds)
        costs = [
            Cost(
                memory_mb(pid),
                cpu_seconds(pid) - before[pid][0],
                len(proxy.requests) - before[pid][1],
            )
            for pid, proxy in pids.items()
        ]
        return costs[0], costs[1], ours.requests[before[agent.pid][1] :]
