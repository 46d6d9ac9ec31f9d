"""What those who wait in a queue depend on: its switches, its limits, and who serves it."""

from __future__ import annotations

from collections.abc import Sequence

from clearflow._prefect import pools, runs
from clearflow._prefect.http import Api
from clearflow.words.models import ACTIVE, Needs, Queue, Run
from clearflow.words.why import Serving, Situation, why

_ACTIVE = {"state": {"type": {"any_": sorted(ACTIVE)}}}


async def situate(api: Api, queue: Queue, agents: Sequence[Serving]) -> Situation:
    """What is the same for everybody who waits in a queue."""
    pool = await pools.read(api, queue.pool)
    limit = pool["concurrency_limit"]
    return Situation(
        queue=queue,
        active=await active(api, queue),
        pool_paused=bool(pool["is_paused"]),
        pool_limit=limit,
        pool_active=await runs.count(api, _ACTIVE, pool=queue.pool) if limit is not None else 0,
        agents=tuple(agents),
    )


async def active(api: Api, queue: Queue) -> int:
    """How many tasks of a queue are with agents."""
    return await runs.count(api, _ACTIVE, queue_id=queue.id)


def reason(run: Run, situation: Situation, ahead: int) -> str:
    """Why this task waits; `ahead` is how many stand before it."""
    state = run.state.name if run.state else ""
    return why(Needs.parse(run.job_variables), situation, ahead, state)
