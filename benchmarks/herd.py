"""Two hundred idle agents on one server, one task: is it claimed soon, and by how few requests.

The agents are coroutines of one process with the real code, from the event stream to the claim;
only the launcher is replaced, so that nothing is started. Counted are the requests for tasks
between the enqueue and three seconds later, by all agents together, less those of the three
seconds before (idle agents ask now and then), and the processor time of the server. Everything
shares this machine's processors, the agents' side too.

Bars: claimed within 1 s, at most 20 requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.bench import POOL, Bench, Report, Row, bench, deployment, queue, summary, until
from benchmarks.costs import cpu_seconds
from benchmarks.start_latency import enqueue
from clearflow._prefect.http import Api
from clearflow.agent.loop import Agent
from clearflow.agent.options import AgentOptions
from clearflow.clock import parse
from clearflow.runtimes.rundir import RunDir
from clearflow.settings import settings
from clearflow.words.models import Machine

_WINDOW = 3.0


class CountingApi(Api):
    """Notes when it asks for tasks, and how many of its requests are under way."""

    asks: list[float]
    under_way = 0

    async def request(self, method: str, path: str, *args: Any, **more: Any) -> Any:
        if path.endswith("/get_scheduled_flow_runs"):
            self.asks.append(time.time())
        self.under_way += 1
        try:
            return await super().request(method, path, *args, **more)
        finally:
            self.under_way -= 1


class NoLauncher:
    """In the place of the launcher: what is claimed is not started."""

    async def start(self) -> None:
        return

    async def launch(self, folder: RunDir) -> None:
        folder.lock()  # as a supervisor does, so that the task is not taken for lost

    def close(self) -> None:
        return


def run(count: int = 200, times: int = 5) -> Report:
    with bench() as made:
        os.environ["CLEARFLOW_HOME"] = str(made.folder / "herd")
        found = asyncio.run(_measure(made, count, times))
    numbers = {what: summary(values) for what, values in found.items()}
    claimed, asks, cpu = numbers["claimed"], numbers["asks"], numbers["cpu"]
    rows = [
        Row(
            f"{count} idle agents, one task queued: claimed, worst of {times}",
            f"{claimed['max']:.2f} s (median {claimed['median']:.2f} s)",
            "≤ 1 s",
            claimed["max"] <= 1.0,
        ),
        Row(
            f"{count} idle agents, one task queued: requests because of it, worst of {times}",
            f"{asks['max']:.0f} (median {asks['median']:.0f})",
            "≤ 20",
            asks["max"] <= 20,
            beside=f"without a task: {numbers['idle']['median']:.0f} in {_WINDOW:g} s;"
            f" server: {cpu['median']:.2f} s of processor time",
        ),
    ]
    return Report("herd", rows, numbers)


async def _measure(made: Bench, count: int, times: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"claimed": [], "asks": [], "idle": [], "cpu": []}
    async with made.api() as api:
        await queue(api, "herd")
        of = await deployment(api, "first_line", POOL, "herd")
        async with _herd(made, count) as asks:
            for _ in range(times):
                await asyncio.sleep(5)
                before = time.time() - _WINDOW
                cpu, started = cpu_seconds(made.server.pid), time.time()
                run_id = await enqueue(api, of, True, {"stamp": ""})
                await asyncio.sleep(_WINDOW)
                idle = sum(before <= at < started for at in asks)
                found["idle"].append(idle)
                found["asks"].append(sum(started <= at for at in asks) - idle)
                found["cpu"].append(cpu_seconds(made.server.pid) - cpu)
                found["claimed"].append(await _claimed(api, run_id) - started)
    return found


async def _claimed(api: Api, run_id: str) -> float:
    """When it was, which on a busy machine may still have to come."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        states = await api.get("/flow_run_states/", flow_run_id=run_id)
        taken = [parse(s["timestamp"]) for s in states if s["type"] == "PENDING"]
        if taken:
            return min(taken).timestamp()
        await asyncio.sleep(0.2)
    raise RuntimeError("nobody has claimed the task within a minute")


@asynccontextmanager
async def _herd(made: Bench, count: int) -> AsyncIterator[list[float]]:
    """Agents that are all idle and connected; gives the times at which they ask for tasks."""
    asks: list[float] = []
    serving: list[str] = []
    few = asyncio.Semaphore(8)

    async def live(number: int) -> None:
        async with CountingApi(made.connection, give_up_after=None) as api:
            api.asks = asks
            options = AgentOptions(pool=POOL, queues=("herd",))
            agent = Agent(api, options, f"agent-{number}", Machine(), say=serving.append)
            agent.launcher = NoLauncher()  # type: ignore[assignment]
            async with few:  # a machine room is not switched on in one moment
                alive = asyncio.create_task(agent.run())
                await until(
                    lambda: agent.listening.is_set() and agent.record and not api.under_way,
                    what="an agent to start",
                )
            await alive

    agents = [asyncio.create_task(live(number)) for number in range(count)]

    def all_serve() -> bool:
        for each in agents:
            if each.done():
                each.result()  # why it ended
        return sum("serves" in text for text in serving) == count

    try:
        await until(all_serve, timeout=600, what="all agents to serve")
        # Until they ask no more often than idle agents do: those that have just come ask at once.
        idle = 5 * count / settings().idle_ask
        before = -count
        while len(asks) - before > 1.5 * idle:
            before = len(asks)
            await asyncio.sleep(5)
        yield asks
    finally:
        for agent in agents:
            agent.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*agents, return_exceptions=True)
