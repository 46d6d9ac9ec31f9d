"""Claims on runs: take one, make sure of it, and end it so that its outcome is recorded once.

The order of the requests is what makes them safe; what to write is decided in
`words/lifecycle.py`. A property test drives these functions, interleaved request by request,
against Prefect's real orchestration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from clearflow import clock
from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound
from clearflow.words import lifecycle, order
from clearflow.words.lifecycle import Admission, Standing, Taken, Write
from clearflow.words.models import ACTIVE, PENDING, RUNNING, Run, State
from clearflow.words.notes import Note


async def take(api: Api, run: Run, write: Write) -> bool:
    """Propose a take. True when the server accepted it; `confirm` before acting on it."""
    try:
        return await runs.propose(api, run.id, write) is not None
    except NotFound:
        return False


async def confirm(api: Api, run_id: str, token: str) -> tuple[Taken, State | None]:
    """Make sure of an accepted take, and undo it where it pushed a final state aside.

    Returns what was taken and the state before it.
    """
    verdict, before = lifecycle.after_take(await runs.history(api, run_id), token)
    if verdict is Taken.RESTORE and before is not None:
        await runs.propose(api, run_id, lifecycle.restored(before))
    return verdict, before


async def hold(api: Api, run: Run, by: str, doing: str) -> Note | None:
    """Take a waiting task for a moment. The note of the hold, or None when somebody else has it."""
    write = lifecycle.held(run, by, doing, lifecycle.claim_token())
    if not await take(api, run, write):
        return None
    verdict, _ = await confirm(api, run.id, write.note.claim or "")
    return write.note if verdict is Taken.MINE else None


async def admit(api: Api, run: Run, pool: str, queue: str, limits: Limits) -> bool:
    """Whether a confirmed claim fits under the limits of its queue and pool; waits for others."""
    while True:
        verdicts = set()
        for limit, where in ((limits.queue, queue), (limits.pool, None)):
            if limit is None:
                continue
            types = {"state": {"type": {"any_": [PENDING, RUNNING]}}}
            active = [r async for r in runs.find(api, types, pool=pool, queue=where)]
            verdicts.add(lifecycle.admission(limit, run.id, active))
        if Admission.YIELD in verdicts:
            return False
        if Admission.WAIT not in verdicts:
            return True
        await asyncio.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tasks may be active at once in a queue, and in its pool."""

    queue: int | None = None
    pool: int | None = None


async def put_back(api: Api, run_id: str, write: Write) -> None:
    """Return a run that this process holds to its line; fine if it was taken over or deleted."""
    try:
        await runs.propose(api, run_id, write)
    except NotFound:
        return


async def settle(api: Api, run_id: str, token: str, by: str, stale_after: timedelta) -> bool:
    """Become the one who may end a claim. True for the first to ask, and for it again.

    A settler may die before it acts: its record goes stale after `stale_after`, and then one
    other takes over, with a record of the next generation.
    """
    prefix = lifecycle.settlement(token)
    found = await api.post(f"/flow_runs/{run_id}/input/filter", {"prefix": prefix, "limit": 100})
    generation = 0
    if found:
        last = max(found, key=lambda r: int(r["key"].removeprefix(prefix)))
        if last["value"] == by:
            return True
        if api.clock.now() - clock.parse(last["created"]) < stale_after:
            return False
        generation = int(last["key"].removeprefix(prefix)) + 1
    record = {"key": f"{prefix}{generation}", "value": by}
    try:
        await api.post(f"/flow_runs/{run_id}/input", record)
    except Conflict:
        return False
    return True


async def standing(api: Api, run_id: str, token: str) -> tuple[Standing, State | None]:
    """Where the holder of a claim stands now; GONE for a deleted run."""
    try:
        return lifecycle.standing(await runs.history(api, run_id), token)
    except NotFound:
        return Standing.GONE, None


async def entitled(
    api: Api,
    run_id: str,
    *,
    token: str,
    by: str,
    leased: Callable[[], bool],
    stale_after: timedelta,
) -> tuple[Standing, State | None]:
    """Wait until the holder of a claim may write its end, and say where it stands then.

    `leased` says whether nobody can have declared the claim lost yet. When in doubt the claim is
    settled first; GONE means that somebody else has done so, and nothing may be written.
    """
    while not leased() and not await settle(api, run_id, token, by, stale_after):
        where, state = await standing(api, run_id, token)
        if where is Standing.GONE:
            return where, state
        await asyncio.sleep(min(1.0, stale_after.total_seconds() / 10))
    return await standing(api, run_id, token)


async def finish(
    api: Api,
    run_id: str,
    write: Write,
    *,
    token: str,
    by: str,
    leased: Callable[[], bool],
    stale_after: timedelta,
) -> State | None:
    """Record the end of a claim that this process holds, exactly once.

    Returns the state that stands at the end, or None when the claim was taken over: then nothing
    was written.
    """
    while True:
        where, state = await entitled(
            api, run_id, token=token, by=by, leased=leased, stale_after=stale_after
        )
        if where is Standing.GONE:
            return None
        if state is not None and state.final:
            return state
        end = write
        if where is Standing.ABORTED and state is not None:
            # A cancellation from the Prefect UI carries no note.
            note = state.note if state.note.claim else write.note.but("")
            end = lifecycle.aborted(state.note.by or "the Prefect UI", note)
        try:
            accepted = await runs.propose(api, run_id, end)
        except NotFound:
            return None
        if accepted is not None:
            return accepted
        # Rejected: an abort came in between. Look again.


async def lose(
    api: Api,
    run: Run,
    why: str,
    *,
    by: str,
    max_attempts: int,
    stale_after: timedelta,
    still: Callable[[Run], Awaitable[bool]] | None = None,
) -> State | None:
    """End the claim on an active run whose holder is gone, and queue the task again in front.

    `still` is asked once more after the claim is settled. Returns the new state, or None when
    somebody else saw to it, or the holder is back.
    """
    token = run.note.claim
    if token is None or not await settle(api, run.id, token, by, stale_after):
        return None
    try:
        fresh = await runs.read(api, run.id)
    except NotFound:
        return None
    if fresh.state is None or fresh.state.final or fresh.note.claim != token:
        return None
    if fresh.state.type not in ACTIVE and not fresh.retrying_in_process:
        return None
    if still is not None and not await still(fresh):
        return None
    policy = lifecycle.retries_after_loss(fresh.policy)
    if policy is not None:
        await runs.patch(api, run.id, empirical_policy=policy)
    write = lifecycle.lost(fresh, why, max_attempts, await front(api, fresh))
    try:
        return await runs.propose(api, run.id, write)
    except NotFound:
        return None


async def front(api: Api, run: Run) -> datetime | None:
    """The place in front of everybody in the run's queue; None (the back) for an empty queue."""
    if run.pool is None or run.queue is None:
        return None
    head = await runs.head_of(api, run.pool, run.queue)
    if head is None or head.place is None:
        return run.place or (run.state.place if run.state else None)
    own = run.state.place if run.state else None
    return order.before(min(head.place, own) if own else head.place)
