"""From enqueue to the first line of user code, warm, median of at least 30 runs each.

The clock starts before the client's request that makes the run, and stops in the flow's first
line. Interleaved in one run, round after round in random order, against the same server:

* clearflow: the agent as it is;
* event + new interpreter: the same agent and events, but the task asks for a set-up script
  (`:`), so that a new interpreter imports Prefect instead of a fork having it;
* Prefect's `process` worker asking once a second (`PREFECT_WORKER_QUERY_SECONDS=1`);
* Prefect's `process` worker at its defaults.

Bars: 0.5 s (stretch 0.3 s); 15 times faster than stock at its defaults, 6 times than stock at one
second, 2.5 times than event + new interpreter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import (
    POOL,
    Bench,
    Report,
    Row,
    bench,
    deployment,
    ended,
    queue,
    stock_pool,
    summary,
    until,
)
from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.words import lifecycle
from clearflow.words.notes import Note

WARM, FRESH, EVERY_SECOND, STOCK = "clearflow", "new interpreter", "stock, 1 s", "stock"
BARS = {STOCK: 15.0, EVERY_SECOND: 6.0, FRESH: 2.5}


def run(count: int = 30, arms: tuple[str, ...] = (WARM, FRESH, EVERY_SECOND, STOCK)) -> Report:
    with bench() as made:
        seconds = asyncio.run(_measure(made, count, arms))
    found = {arm: summary(values) for arm, values in seconds.items()}
    median = found[WARM]["median"]
    rows = [
        Row(
            "enqueue → first user line, warm `@flow`, median",
            f"{median:.2f} s (p95 {found[WARM]['p95']:.2f} s, n = {count})",
            "≤ 0.5 s",
            median <= 0.5,
            "0.3 s",
        )
    ]
    titles = {
        STOCK: "the same, stock `process` worker at defaults",
        EVERY_SECOND: "the same, stock at 1 s polling",
        FRESH: "the same, event + new interpreter",
    }
    for arm, bar in BARS.items():
        if arm in found:
            other = found[arm]["median"]
            rows.append(
                Row(
                    titles[arm],
                    f"{other / median:.1f}×",
                    f"≥ {bar:g}×",
                    other >= bar * median,
                    beside=f"{other:.2f} s (p95 {found[arm]['p95']:.2f} s)",
                )
            )
    return Report("start_latency", rows, {"summary": found, "seconds": seconds})


async def _measure(made: Bench, count: int, arms: tuple[str, ...]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    async with made.api() as api:
        made_for = {arm: await _prepare(made, api, arm) for arm in arms}
        for number in range(-1, count):
            for arm in random.sample(arms, len(arms)):
                # Where the pollers are in their interval is left to chance.
                await asyncio.sleep(random.uniform(0.3, 1.3))
                stamp = made.folder / f"{arm}-{number}.stamp"
                taken = await _once(api, made_for[arm], arm, stamp)
                if number >= 0:  # the first round warms everybody up
                    seconds[arm].append(taken)
    return seconds


async def _prepare(made: Bench, api: Api, arm: str) -> dict[str, Any]:
    """Start the worker of an arm; returns its deployment."""
    if arm in {WARM, FRESH}:
        name = arm.replace(" ", "-")
        await queue(api, name)
        await asyncio.to_thread(made.agent, name, name)
        variables = {"setup_script": ":"} if arm == FRESH else {}
        return await deployment(api, "first_line", POOL, name, job_variables=variables)
    pool = arm.replace(", ", "-").replace(" ", "")
    await stock_pool(api, pool)
    seconds = "1" if arm == EVERY_SECOND else "10"
    await asyncio.to_thread(lambda: made.stock_worker(pool, PREFECT_WORKER_QUERY_SECONDS=seconds))
    return await deployment(api, "first_line", pool)


async def _once(api: Api, of: Mapping[str, Any], arm: str, stamp: Path) -> float:
    parameters = {"stamp": str(stamp)}
    started = time.time()
    run_id = await enqueue(api, of, arm in {WARM, FRESH}, parameters)
    text = await until(lambda: stamp.exists() and stamp.read_text(), what=f"{arm} to start")
    await ended(api, run_id)
    return float(text) - started


async def enqueue(api: Api, of: Mapping[str, Any], ours: bool, parameters: dict[str, Any]) -> str:
    """Queue a run as clearflow does, or as Prefect's own `run_deployment` does."""
    if ours:
        write = lifecycle.queued(Note("queued by a benchmark"))
        made = await runs.create(api, of, write=write, parameters=parameters)
        return made.id
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    return str((await api.post(f"/deployments/{of['id']}/create_flow_run", body))["id"])
