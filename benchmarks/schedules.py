"""1,000 schedules due in the same minute: how soon their tasks wait in their queue, and which not.

Twice. Direct ones are queued by Prefect itself, ahead of time: what is measured is when agents are
offered them. The others wake `clearflow-launch` on an agent of `services`, which resolves what to
launch; a minute later, so that neither hurries the other.

Bar: 20 s, none missed, none doubled; 5 s is the stretch.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import datetime, timedelta

from benchmarks.bench import POOL, Bench, Report, Row, bench
from clearflow._prefect import deployments, pools, runs
from clearflow._prefect.http import Api
from clearflow.automation import schedules as engine
from clearflow.automation.jobs import parsed
from clearflow.words.models import SCHEDULED, Run

_PATIENCE = 120.0


def run(count: int = 1000) -> Report:
    os.environ["CLEARFLOW_POOL"] = POOL
    with bench() as made:
        direct, launched = asyncio.run(_measure(made, count))
    rows = [
        *_rows(f"{count:,} due in the same minute, direct → offered to agents", count, *direct),
        *_rows(f"{count:,} due in the same minute → launched, in their queue", count, *launched),
    ]
    return Report("schedules", rows, {"direct": direct[0], "launched": launched[0]})


def _rows(what: str, count: int, took: float, there: list[int]) -> list[Row]:
    missed, doubled = count - len(set(there)), len(there) - len(set(there))
    return [
        Row(what, f"{took:.1f} s", "≤ 20 s", took <= 20, "5 s"),
        Row("of these missed, doubled", f"{missed}, {doubled}", "0, 0", not missed and not doubled),
    ]


Found = tuple[float, list[int]]


async def _measure(made: Bench, count: int) -> tuple[Found, Found]:
    """For direct ones and for others: seconds from their moment, and whose tasks there are."""
    async with made.api() as api:
        for queue in ("cpu", "gpu", "services"):
            await pools.ensure_queue(api, POOL, queue)
        await asyncio.to_thread(made.agent, "services", "services")
        # All of them have to be there before.
        soon = datetime.now().astimezone(tz=api.clock.now().tzinfo) + timedelta(
            seconds=80 + count * 0.05
        )
        first = soon.replace(second=0, microsecond=0) + timedelta(minutes=1)
        second = first + timedelta(minutes=1)
        await _put(api, "direct", "cpu", first, count)
        await _put(api, "launched", "gpu", second, count)
        if datetime.now(first.tzinfo) > first:
            raise RuntimeError("the schedules were not made in time: this machine is too busy")
        return await _offered(api, first, count), await _launched(api, second, count)


async def _put(api: Api, name: str, queue: str, at: datetime, count: int) -> None:
    """Schedules that are due at this moment, each for a task with its number."""
    target = await deployments.ensure(
        api,
        flow=name,
        name="clearflow",
        pool=POOL,
        queue=queue,
        entrypoint="trivial.py:trivial",
        parameters_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
    )
    jobs = [
        parsed(
            {
                "name": f"job {number}",
                "launch": {
                    "deployment": str(target["id"]),
                    "queue": queue,
                    "parameters": {"n": number},
                },
                "cron": f"{at.minute} {at.hour} * * *",
                "direct": name == "direct",
            }
        )
        for number in range(count)
    ]
    await engine.put(api, name, "Benchmarks", jobs, by="bench")


async def _offered(api: Api, at: datetime, count: int) -> Found:
    await asyncio.sleep(max(0.0, at.timestamp() - time.time()))
    there = await _waiting(api, "cpu", at, count)
    return time.time() - at.timestamp(), [int(run.parameters["n"]) for run in there]


async def _launched(api: Api, at: datetime, count: int) -> Found:
    await asyncio.sleep(max(0.0, at.timestamp() - time.time()))
    there = await _waiting(api, "gpu", None, count)
    last = max((run.created for run in there if run.created), default=at)
    took = (last - at).total_seconds() if len(there) >= count else _PATIENCE
    return took, [int(run.parameters["n"]) for run in there]


async def _waiting(api: Api, queue: str, due: datetime | None, count: int) -> list[Run]:
    """The tasks that wait in a queue, once there are so many, or after a while."""
    where: dict[str, object] = {"state": {"type": {"any_": [SCHEDULED]}}}
    if due is not None:
        where["next_scheduled_start_time"] = {"before_": due.isoformat()}
    deadline = time.monotonic() + _PATIENCE
    while await runs.count(api, where, pool=POOL, queue=queue) < count:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    return [run async for run in runs.find(api, where, pool=POOL, queue=queue)]
