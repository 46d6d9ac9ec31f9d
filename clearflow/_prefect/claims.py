"""Claims on runs: take one, make sure of it, and end it so that its outcome is recorded once.

The order of the requests is what makes them safe; what to write is decided in
`words/lifecycle.py`. A property test drives these functions, interleaved request by request,
against Prefect's real orchestration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from clearflow._prefect import runs, settling
from clearflow._prefect.http import Api
from clearflow._prefect.settling import Right
from clearflow._prefect.settling import settle as settle
from clearflow.errors import NotFound
from clearflow.settings import settings
from clearflow.words import lifecycle, losing, order
from clearflow.words.admission import Admission, admission
from clearflow.words.lifecycle import Standing, Taken, Write
from clearflow.words.models import ACTIVE, CANCELLING, FINAL, PENDING, RUNNING, Run, State
from clearflow.words.notes import Note


async def take(api: Api, run: Run, write: Write) -> bool:
    """Propose a take. True when the server accepted it; `confirm` before acting on it."""
    try:
        accepted, state = await runs.proposed(api, run.id, write)
    except NotFound:
        return False
    # Accepted, its answer lost, and the run aborted before it was asked for again.
    return accepted or (state is not None and state.note.claim == write.note.claim)


async def confirm(api: Api, run_id: str, token: str) -> tuple[Taken, State | None]:
    """Make sure of an accepted take, and undo it where it got what it did not mean to take.

    Returns what was taken and the state before it.
    """
    verdict, before = lifecycle.after_take(await settling.history(api, run_id, token), token)
    if verdict is Taken.RESTORE and before is not None:
        await put_back(api, run_id, lifecycle.restored(before, token))
    return verdict, before


async def seize(api: Api, run: Run, write: Write) -> tuple[bool, datetime | None]:
    """Take a waiting run and make sure of it: whether it is taken, and the place where it stood.

    Prefect copies the place of a run that waits into the state that takes it, and of no other. The
    place it was read at tells that it is the same wait, too: nobody comes back to it from an
    attempt that was lost. Anything else is looked up.
    """
    try:
        accepted, state = await runs.proposed(api, run.id, write)
    except NotFound:
        return False, None
    if state is None or not (accepted or state.note.claim == write.note.claim):
        return False, None
    if accepted and state.place is not None and state.place == run.place:
        return True, state.place
    verdict, before = await confirm(api, run.id, write.note.claim or "")
    return verdict is Taken.MINE, before.place if before else run.place


async def hold(api: Api, run: Run, by: str, doing: str) -> Note | None:
    """Take a waiting task for a moment. The note of the hold, or None when somebody else has it."""
    write = lifecycle.held(run, by, doing, lifecycle.claim_token())
    taken, _ = await seize(api, run, write)
    return write.note if taken else None


async def admit(api: Api, run: Run, pool: str, queue: str, limits: Limits) -> bool:
    """Whether a confirmed claim fits under the limits of its queue and pool; waits for others."""
    pause = 0.05
    while True:
        verdicts = set()
        for limit, where in ((limits.queue, queue), (limits.pool, None)):
            if limit is None:
                continue
            types = {"state": {"type": {"any_": [PENDING, RUNNING]}}}
            active = [r async for r in runs.find(api, types, pool=pool, queue=where)]
            verdicts.add(admission(limit, run.id, active))
        if Admission.YIELD in verdicts:
            return False
        if Admission.WAIT not in verdicts:
            return True
        await asyncio.sleep(pause)
        # Whoever is waited for may be cut off, until it is declared lost.
        pause = min(pause * 1.5, 1.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tasks may be active at once in a queue, and in its pool."""

    queue: int | None = None
    pool: int | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """Where the end of a claim stands: over, or still to be written."""

    end: Write | None = None
    state: State | None = None
    since: datetime | None = None


async def _look(api: Api, run_id: str, write: Write, token: str) -> _Look:
    """What is to be written to end a claim with `write`; nothing when it has ended."""
    try:
        history = await settling.history(api, run_id, token)
    except NotFound:
        return _Look()
    where, state = lifecycle.standing(history, token)
    if where is Standing.GONE:
        return _Look(state=lifecycle.written(history, token, write))
    if state is not None and state.final and history[-1].final:
        return _Look(state=state)
    end = write
    # What is put back as it was had ended before: there was nothing left to abort.
    if (
        where is Standing.ABORTED
        and state is not None
        and not (write.force and write.type in FINAL)
    ):
        # A cancellation from the Prefect UI carries no note.
        note = state.note if state.note.claim else replace(write.note, claim=token)
        end = lifecycle.aborted(state.note.by or "the Prefect UI", note)
    return _Look(end, since=history[-1].at)


async def put_back(api: Api, run_id: str, write: Write) -> State | None:
    """End the claim that `write.over` names without an outcome, by who holds it.

    Returns the state that stands then, which is CANCELLED when an abort came first; None when the
    claim was taken over or the run deleted, and nothing was written.
    """
    if write.over is None:
        with suppress(NotFound):
            return await runs.propose(api, run_id, write)
        return None
    silence = timedelta(seconds=settings().silence)
    while True:
        look = await _look(api, run_id, write, write.over)
        if look.end is None:
            return look.state
        if look.since is None or api.clock.now() - look.since > silence / 2:
            break
        # A claim so young cannot have been declared lost.
        state = await settling.write_once(api, run_id, look.end, silence / 6)
        if state is not None:
            return state
    by = f"holder {lifecycle.claim_token()}"
    return await finish(
        api, run_id, write, token=write.over, by=by, leased=lambda: False, stale_after=silence
    )


async def standing(api: Api, run_id: str, token: str) -> tuple[Standing, State | None]:
    """Where the holder of a claim stands now; GONE for a deleted run."""
    try:
        return lifecycle.standing(await settling.history(api, run_id, token), token)
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
    """Wait until the holder of a claim may write to its run, and say where it stands then.

    `leased` says whether nobody can have declared the claim lost yet. When in doubt the claim is
    settled first; GONE means that somebody else has done so, and nothing may be written. What is
    written has to arrive within a sixth of `stale_after`.
    """
    right = Right(api, run_id, token, by, stale_after, leased)
    while True:
        may = await right.acquire()
        where, state = await standing(api, run_id, token)
        if where in {Standing.GONE, Standing.ENDED} or (may and right.valid):
            return where, state
        await right.pause()


async def begin(
    api: Api,
    run_id: str,
    note: Note,
    *,
    by: str,
    leased: Callable[[], bool],
    stale_after: timedelta,
) -> Standing:
    """Write that user code starts now. After MINE it may, and no abort has come before.

    While this machine is cut off it waits: nothing is lost yet.
    """
    token = note.claim or ""
    write = lifecycle.running(note)
    right = Right(api, run_id, token, by, stale_after, leased)
    while True:
        may = await right.acquire(settle=False)
        try:
            history = await settling.history(api, run_id, token)
        except NotFound:
            return Standing.GONE
        where, _ = lifecycle.standing(history, token)
        if where is not Standing.MINE or lifecycle.written(history, token, write):
            return where
        if may and await right.write(write) is not None:
            return Standing.MINE
        await right.pause()


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

    Returns the state that stands at the end, which is CANCELLED when an abort came first; None
    when the claim was taken over: then nothing was written.
    """
    right = Right(api, run_id, token, by, stale_after, leased)
    while True:
        may = await right.acquire()
        look = await _look(api, run_id, write, token)
        if look.end is None:
            return look.state
        if may and (state := await right.write(look.end)) is not None:
            return state
        if not may:
            await right.pause()


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
    if token is None:
        return None
    # Two callers of one name are still two.
    by = f"{by} {lifecycle.claim_token()}"
    right = Right(api, run.id, token, by, stale_after)
    write: Write | None = None
    with suppress(NotFound):
        while await right.acquire():
            fresh = await runs.read(api, run.id)
            history = await settling.history(api, run.id, token)
            if write is not None and (made := lifecycle.written(history, token, write)):
                return made
            if not _to_be_lost(fresh, token):
                return None
            if still is not None and not await still(fresh):
                await settling.release(api, run.id, token, by)
                return None
            taken, before = lifecycle.after_take(history, token)
            if taken is Taken.RESTORE and before is not None:
                write = lifecycle.restored(before, token)
            else:
                if policy := losing.retries_after_loss(fresh.policy):
                    await runs.patch(api, run.id, empirical_policy=policy)
                write = losing.lost(fresh, why, max_attempts, await front(api, fresh))
            if (state := await right.write(write)) is not None:
                return state
    return None


def _to_be_lost(run: Run, token: str) -> bool:
    if run.state is None or run.state.final or run.note.claim != token:
        return False
    return run.state.type in ACTIVE or run.retrying_in_process


async def abort(api: Api, run_id: str, by: str) -> State | None:
    """Abort a task: at once while it waits, else by asking its holder to stop.

    Returns the state it is in then; None when it had ended. Raises NotFound.
    """
    asked = False
    while True:
        run = await runs.read(api, run_id)
        write = lifecycle.abort(run, by, api.clock.now())
        if run.state is None or write is None:
            ended = run.state is None or (run.state.final and not asked)
            return None if ended else run.state
        if lifecycle.is_waiting(run):
            note = await hold(api, run, by, "aborting")
            if note is not None:
                write = replace(write, note=replace(write.note, claim=None), over=note.claim)
                return await put_back(api, run_id, write)
            # Somebody took it, or nobody can: then Prefect cancels it, without a name.
            write = replace(write, type=CANCELLING, name="Cancelling")
        state = await settling.write_once(api, run_id, write, timedelta(seconds=10))
        if state is not None:
            return state
        asked = True


async def requeue(api: Api, run: Run, write: Write, *, by: str) -> State | None:
    """Write over a state in which nobody can take the task: that of a draft, or of one that ended.

    Only one party gets to do it for each such state. Returns the new state, None when somebody
    else did it. Raises NotFound.
    """
    if run.state is None:
        return None
    silence = timedelta(seconds=settings().silence)
    by = f"{by} {lifecycle.claim_token()}"
    right = Right(api, run.id, run.state.id, by, silence)
    while await right.acquire():
        fresh = await runs.read(api, run.id)
        if fresh.state is None or fresh.state.id != run.state.id:
            states = await runs.history(api, run.id)
            at = next((i for i, s in enumerate(states) if s.id == run.state.id), len(states))
            return lifecycle.written(states[at:], None, write)
        if (state := await right.write(write)) is not None:
            return state
    return None


async def front(api: Api, run: Run) -> datetime | None:
    """The place in front of everybody in the run's queue; None (the back) for an empty queue."""
    if run.pool is None or run.queue is None:
        return None
    head = await runs.head_of(api, run.pool, run.queue)
    own = run.place or (run.state.place if run.state else None)
    ahead_of = [p for p in (own, head.place if head else None) if p is not None]
    if not ahead_of:
        return None
    # Who is scheduled for later does not stand in the line; a place in the future hides a task.
    place = order.before(min(*ahead_of, api.clock.now()))
    # Tasks that are lost at the same moment must not get the same place.
    return place - order.TICK * (int(run.id[:4], 16) % 1000)
