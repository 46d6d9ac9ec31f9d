"""A machine dies: how long until its task is claimed elsewhere, with the settings as they come.

Two agents, each with a home of its own. Everything of the one that has the task (agent,
launcher, supervisor, the task's process) is killed with -9 and not started again. The clock runs
from there until the server has the other agent's claim. Repeated, as it depends on where the
heartbeats stand; the worst counts. With Prefect's own workers there is nothing to compare: such a
run stays Running for ever.

Bar: 45 s, stretch 35 s.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.bench import POOL, Bench, Report, Row, Started, bench, deployment, queue, summary
from benchmarks.start_latency import enqueue
from clearflow._prefect import runs
from clearflow._prefect.http import Api


def run(times: int = 5) -> Report:
    with bench() as made:
        seconds = asyncio.run(_measure(made, times))
    found = summary(seconds)
    row = Row(
        "machine lost → its task claimed elsewhere, default settings, worst",
        f"{found['max']:.0f} s (median {found['median']:.0f} s, n = {times})",
        "≤ 45 s",
        found["max"] <= 45,
        "35 s",
        "stock: never",
    )
    return Report("loss", [row], {"seconds": seconds})


async def _measure(made: Bench, times: int) -> list[float]:
    async with made.api() as api:
        await queue(api, "lossy")
        of = await deployment(api, "sleeps_once", POOL, "lossy")
        return [await _once(made, api, of, number) for number in range(times)]


async def _once(made: Bench, api: Api, of: Mapping[str, Any], number: int) -> float:
    victim = await _agent(made, f"victim-{number}")
    stamp = str(made.folder / f"{number}.stamp")
    run_id = await enqueue(api, of, True, {"stamp": stamp})
    await _claimed(api, run_id, victim.name)
    survivor = await _agent(made, f"survivor-{number}")
    # The survivor gets to hear of it, and the heartbeats come to stand anywhere.
    await asyncio.sleep(random.uniform(15.0, 30.0))
    killed = time.monotonic()
    victim.lose_power()
    await _claimed(api, run_id, survivor.name)
    taken = time.monotonic() - killed
    await asyncio.sleep(5)  # the task ends: it sleeps only once
    survivor.lose_power()
    return taken


async def _agent(made: Bench, name: str) -> Started:
    home = str(made.folder / name)
    return await asyncio.to_thread(lambda: made.agent("lossy", name, CLEARFLOW_HOME=home))


async def _claimed(api: Api, run_id: str, agent: str) -> None:
    """Until this agent has the run."""
    deadline = time.monotonic() + 300
    while (await runs.read(api, run_id)).note.agent != agent:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{agent} has not claimed it")
        await asyncio.sleep(0.1)
