"""Tasks whose machine, agent or supervisor has died: noticed, and queued again at the front."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from clearflow._prefect import claims, deployments, pools, runs
from clearflow._prefect.hops import finish_hops
from clearflow._prefect.http import Api
from clearflow.errors import NotFound
from clearflow.runtimes.clearing import clear
from clearflow.runtimes.rundir import rundirs
from clearflow.settings import settings
from clearflow.tasks.abort import after_end
from clearflow.words import losing
from clearflow.words.models import ACTIVE, Run, State
from clearflow.words.names import HERE

RETRYING = "AwaitingRetry"  # Prefect's name for the time between two tries
_ACTIVE: dict[str, Any] = {"state": {"type": {"any_": sorted(ACTIVE)}}}
_SOMEBODYS: dict[str, Any] = {
    "state": {**_ACTIVE["state"], "name": {"any_": [RETRYING]}, "operator": "or_"}
}


async def lose_dead(api: Api, folder: Path, *, by: str, spare: Collection[str] = ()) -> list[str]:
    """Lose the claims of this machine whose supervisor has died.

    Returns the runs of which that could not be recorded: somebody has settled the claim just now,
    and may have died before acting on it. Who sweeps looks at them again.

    `folder` is an agent's, `spare` are tokens of claims that somebody looks after. What is left of
    such a task is killed first, so that its next attempt cannot overlap with it. One that died
    while it sent a state is given the time in which states arrive: a task that has ended is not
    queued again.
    """
    left = []
    silence = timedelta(seconds=settings().silence)
    for rundir in rundirs(folder):
        if rundir.path.name in spare or rundir.has_supervisor():
            continue
        job = rundir.job()
        if job is None:
            rundir.remove()  # somebody died while clearing it away
            continue
        await clear(job)
        if rundir.died_writing():
            await asyncio.sleep(silence.total_seconds() / 6)
        try:
            run = await runs.read(api, job.run_id)
        except NotFound:
            run = None
        if run is not None and run.note.claim == job.token:
            state = await _lose(
                api,
                run,
                "its supervisor died",
                by=by,
                max_attempts=await attempts_of(api, run),
                stale_after=silence,
            )
            if state is None and await _stands(api, run):
                left.append(run.id)
        rundir.remove()
    return left


async def sweep(
    api: Api, pool: str, *, by: str, mine: Collection[str], may_lose: Callable[[], bool]
) -> list[str]:
    """Lose the tasks of a pool whose agents are silent; returns the runs that are still active.

    Those that programs are by themselves are returned by their claims too.

    `mine` are the tokens of the claims that the caller has. Any other claim in its name got lost
    on the way, by an error between taking a task and starting it. `may_lose` is asked again before
    each loss: an outage of the server silences everybody.
    """
    silence = timedelta(seconds=settings().silence)
    active = await active_runs(api, pool)
    if not any(run.note.claim for run in active):
        return [run.id for run in active]
    beats = await _heartbeats(api, pool)
    left = []
    for run in active:
        lives = run.note.claim in mine
        heard = _heard(run, beats, by)
        if lives or not losing.is_lost(run, heard, api.clock.now(), silence):
            left.append(run.id)
            if HERE in run.tags and run.note.claim:
                left.append(run.note.claim)
            continue

        async def still(fresh: Run) -> bool:
            # A mover that died between the new run and the end of the old one.
            if await finish_hops(api, fresh):
                return False
            latest = _heard(fresh, await _heartbeats(api, pool), by)
            return losing.is_lost(fresh, latest, api.clock.now(), silence) and may_lose()

        who = run.note.agent or run.note.by
        why = f"nothing was heard of {who} for {silence.total_seconds():.0f} s"
        await _lose(
            api,
            run,
            why,
            by=by,
            max_attempts=await attempts_of(api, run),
            stale_after=silence,
            still=still,
        )
    return left


async def lose_forgotten(api: Api, pool: str, agent: str, known: Collection[str]) -> list[str]:
    """Lose the claims that an agent of this name made before it was killed, and never launched.

    `known` are the tokens of the claims it does have. Returns the runs of which that could not be
    recorded, as `lose_dead` does.
    """
    left = []
    for run in [r async for r in runs.find(api, _SOMEBODYS, pool=pool)]:
        if run.note.agent == agent and run.note.claim not in known:
            state = await _lose(
                api,
                run,
                "its agent was killed before it could start it",
                by=agent,
                max_attempts=await attempts_of(api, run),
                stale_after=timedelta(seconds=settings().silence),
            )
            if state is None and await _stands(api, run):
                left.append(run.id)
    return left


async def _lose(
    api: Api,
    run: Run,
    why: str,
    *,
    by: str,
    max_attempts: int,
    stale_after: timedelta,
    still: Callable[[Run], Awaitable[bool]] | None = None,
) -> State | None:
    """As `claims.lose`; the steps of a pipeline that is not started again are aborted."""
    state = await claims.lose(
        api, run, why, by=by, max_attempts=max_attempts, stale_after=stale_after, still=still
    )
    await after_end(api, run, state, by=by)
    return state


async def _stands(api: Api, run: Run) -> bool:
    """Whether the claim that a run had is still the one it has."""
    with contextlib.suppress(NotFound):
        fresh = await runs.read(api, run.id)
        ended = fresh.state is None or fresh.state.final
        return not ended and fresh.note.claim == run.note.claim
    return False


async def active_runs(api: Api, pool: str) -> list[Run]:
    """The runs of a pool that somebody has, those between two tries of their flow among them.

    And those that programs are by themselves, which belong to no pool.
    """
    here = {**_ACTIVE, "tags": {"all_": [HERE]}}
    asked = ((_SOMEBODYS, pool), (here, None))
    return [run for where, of in asked async for run in runs.find(api, where, pool=of)]


def _heard(
    run: Run, beats: Mapping[str, datetime | None], by: str
) -> Mapping[str, datetime | None]:
    """When the holders of claims were last heard of, as far as this run is concerned."""
    if HERE in run.tags:
        return {str(run.note.agent): run.updated}
    # A claim in the name of who asks, and that it does not have, is nobody's.
    return {**beats, by: None} if run.note.agent == by else beats


async def _heartbeats(api: Api, pool: str) -> Mapping[str, datetime | None]:
    return {w.name: w.heartbeat for w in await pools.workers(api, pool)}


async def attempts_of(api: Api, run: Run) -> int:
    """How often this task may be started."""
    if HERE in run.tags:
        return 1  # no agent can start it again
    asked = run.job_variables.get("max_attempts")
    if asked is None and run.deployment_id is not None:
        with contextlib.suppress(NotFound):
            deployment = await deployments.read(api, run.deployment_id)
            asked = (deployment.get("job_variables") or {}).get("max_attempts")
    return int(asked or settings().max_attempts)
