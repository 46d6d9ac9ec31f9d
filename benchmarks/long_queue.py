"""Ten thousand tasks waiting in one queue on SQLite, from the client's call to its answer.

* move to front: `Queue.move_to_front(task)`, as people's programs and the command line do it;
* list first 100: the line, as `clearflow queue show` reads it;
* take next: what an agent does from "there may be something" to "the task is mine": ask the
  server what it offers, and take the first.

Nothing runs beside it. Bars (medians): 80, 100 and 200 ms; stretch 50, 50 and 100 ms.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from benchmarks.bench import POOL, Bench, Report, Row, bench, bulk, deployment, queue, summary
from clearflow import clock
from clearflow._prefect import pools, seam
from clearflow._prefect.http import Api
from clearflow.agent.options import AgentOptions
from clearflow.agent.take import Taker
from clearflow.queues import Queue, line
from clearflow.runtimes.rundir import Job
from clearflow.words.models import Machine
from clearflow.words.notes import Note

_BULK = 100  # the server's limit of runs made in one call
_NAME = "long"


def run(waiting: int = 10_000, times: int = 30) -> Report:
    with bench() as made:
        os.environ["PREFECT_API_URL"] = made.server.url
        ids = asyncio.run(_fill(made, waiting))
        found = _measure(ids, times)
    medians = {what: summary(values) for what, values in found.items()}
    bars = {
        "move to front": (80, 50),
        "list first 100": (100, 50),
        "take next": (200, 100),
    }
    rows = [
        Row(
            f"{waiting:,} waiting: {what}, median",
            f"{medians[what]['median']:.0f} ms (p95 {medians[what]['p95']:.0f} ms)",
            f"≤ {bar} ms",
            medians[what]["median"] <= bar,
            f"{stretch} ms",
        )
        for what, (bar, stretch) in bars.items()
    ]
    return Report("long_queue", rows, {"milliseconds": medians})


async def _fill(made: Bench, waiting: int) -> list[str]:
    async with made.api() as api:
        await queue(api, _NAME)
        of = await deployment(api, "first_line", POOL, _NAME)
        # For every run the server checks the job variables by the pool's template, and the template
        # too, which would take most of half an hour.
        template = (await pools.read(api, POOL))["base_job_template"]
        await api.patch(f"/work_pools/{POOL}", {"base_job_template": {}})
        first = clock.now() - timedelta(hours=1)
        ids: list[str] = []
        places = [first + timedelta(seconds=0.1) * number for number in range(waiting)]
        for start in range(0, waiting, _BULK):
            body = [_waiting(place) for place in places[start : start + _BULK]]
            ids += await bulk(api, of, body)
        await api.patch(f"/work_pools/{POOL}", {"base_job_template": template})
        return ids


def _waiting(place: Any) -> dict[str, Any]:
    state = {
        "type": "SCHEDULED",
        "name": "Queued",
        "message": str(Note("queued by a benchmark", since=place)),
        "state_details": {"scheduled_time": place.isoformat()},
    }
    return {"state": state, "parameters": {"stamp": ""}}


def _measure(ids: list[str], times: int) -> dict[str, list[float]]:
    line_of = Queue(_NAME)
    taker = seam.run(_taker)
    left = set(ids)
    found: dict[str, list[float]] = {"move to front": [], "list first 100": [], "take next": []}

    async def first_hundred(api: Api) -> list[Any]:
        return [run async for run in line.waiting(api, taker.lines[_NAME].queue.id, limit=100)]

    async def take_next(api: Api) -> bool:
        taker.stir()
        return await taker.take_one()

    for number in range(times + 1):
        task = random.choice(sorted(left))
        timed: dict[str, Callable[[], Any]] = {
            "move to front": partial(line_of.move_to_front, task),
            "list first 100": lambda: seam.run(first_hundred),
            "take next": lambda: seam.run(take_next),
        }
        for what, act in timed.items():
            start = time.perf_counter()
            answer = act()
            taken = (time.perf_counter() - start) * 1000
            if what == "list first 100":
                assert answer[0].id == task, "the task that was moved is not at the front"
            if number:  # the first of each warms up
                found[what].append(taken)
        left.discard(task)
    return found


async def _taker(api: Api) -> Taker:
    """The agent's own code, whose tasks are not started and hold no slot."""

    async def start(job: Job) -> None:
        return

    options = AgentOptions(pool=POOL, queues=(_NAME,))
    taker = Taker(api, options, "benchmark", Machine(), used=lambda: [], start=start)
    await taker.prepare()
    return taker
