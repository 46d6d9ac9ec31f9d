"""1,000 schedules due in the same minute: how soon their tasks wait in their queue, and which not.

Direct ones are queued by Prefect itself, ahead of time: what is measured is when agents are offered
them. Of those that `clearflow-launch` resolves, a hundred are launched by one run, as it does.

Bar: 20 s, none missed, none doubled; 5 s is the stretch.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import datetime, timedelta

from benchmarks.bench import POOL, Report, Row, bench
from clearflow._prefect import deployments, pools, runs, schedules
from clearflow._prefect.http import Api
from clearflow.automation import firing, schedulers
from clearflow.automation import schedules as engine
from clearflow.automation.jobs import Firing, parsed
from clearflow.automation.schedulers import Scheduler
from clearflow.words.launches import origin_tag
from clearflow.words.models import SCHEDULED, Run


def run(count: int = 1000, resolved: int = 100) -> Report:
    os.environ["CLEARFLOW_POOL"] = POOL
    with bench() as made:
        return asyncio.run(_measure(made.api(), count, resolved))


async def _measure(api: Api, count: int, resolved: int) -> Report:
    async with api:
        for queue in ("cpu", "services"):
            await pools.ensure_queue(api, POOL, queue)
        target = await deployments.ensure(
            api,
            flow="trivial",
            name="clearflow",
            pool=POOL,
            queue="cpu",
            entrypoint="trivial.py:trivial",
            parameters_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
        )
        took, there, moments = await _direct(api, str(target["id"]), count)
        launching, launched = await _resolved(api, str(target["id"]), resolved)
    missed, doubled = count - len(moments), there - len(moments)
    rows = [
        Row(
            f"{count:,} due in the same minute → offered to agents",
            f"{took:.1f} s",
            "20 s",
            took <= 20,
            "5 s",
        ),
        Row("of these missed, doubled", f"{missed}, {doubled}", "0, 0", not missed and not doubled),
        Row(
            f"{resolved} resolved and launched by one run of clearflow-launch",
            f"{launching:.1f} s",
            "–",
            launched == resolved or None,
        ),
    ]
    return Report(
        "schedules",
        rows,
        {"direct": took, "missed": missed, "doubled": doubled, "resolved": launching},
    )


def _job(number: int, target: str, at: datetime, direct: bool) -> dict[str, object]:
    launch = {"deployment": target, "queue": "cpu", "parameters": {"n": number}}
    cron = f"{at.minute} {at.hour} * * *"
    return {"name": f"job {number}", "launch": launch, "cron": cron, "direct": direct}


async def _direct(api: Api, target: str, count: int) -> tuple[float, int, set[int]]:
    """Seconds from the moment until all are offered; how many there are, and of which jobs."""
    at = (datetime.now().astimezone() + timedelta(minutes=5)).replace(second=0, microsecond=0)
    utc = at.astimezone(tz=api.clock.now().tzinfo)
    jobs = [parsed(_job(n, target, utc, True)) for n in range(count)]
    await engine.put(api, "direct", "Benchmarks", jobs, by="bench")
    await asyncio.sleep(max(0.0, at.timestamp() - time.time()))
    where = {
        "state": {"type": {"any_": [SCHEDULED]}},
        "next_scheduled_start_time": {"before_": utc.isoformat()},
    }
    while True:
        there = await runs.count(api, where, pool=POOL, queue="cpu")
        took = time.time() - at.timestamp()
        if there >= count or took > 120:
            break
        await asyncio.sleep(0.2)
    found = [r async for r in runs.find(api, where, pool=POOL, queue="cpu")]
    return took, len(found), {int(r.parameters["n"]) for r in found}


async def _resolved(api: Api, target: str, count: int) -> tuple[float, int]:
    """Seconds that one run of clearflow-launch takes for so many jobs, and how many it launched."""
    at = api.clock.now() + timedelta(minutes=2)
    jobs = [parsed(_job(n, target, at, False)) for n in range(count)]
    await engine.put(api, "resolved", "Benchmarks", jobs, by="bench")
    (scheduler,) = await schedulers.schedulers(api, "resolved", "Benchmarks")
    due = min(
        [r.expected async for _, r in schedules.coming(api, scheduler.id) if r.expected is not None]
    )
    await asyncio.sleep(max(0.0, (due - api.clock.now()).total_seconds() + 1))
    made = Run("0" * 8, "job 0", None, deployment_id=scheduler.id, expected=due)
    wanted = Firing(scheduler=scheduler.name, project=scheduler.project, job="job 0")
    began = time.monotonic()
    await firing.fire(api, made, wanted, lambda text: None)
    return time.monotonic() - began, await _launched(api, scheduler, count)


async def _launched(api: Api, scheduler: Scheduler, count: int) -> int:
    found = 0
    for number in range(count):
        tag = origin_tag(schedulers.origin(scheduler.id, f"job {number}"))
        found += await runs.count(api, {"tags": {"all_": [tag]}}) == 1
    return found
