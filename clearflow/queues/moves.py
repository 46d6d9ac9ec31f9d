"""Moving waiting tasks: within their queue, and to another one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from clearflow._prefect import pools, runs
from clearflow._prefect.holds import Held, holding, label, not_waiting, settled
from clearflow._prefect.hops import hop
from clearflow._prefect.http import Api
from clearflow._prefect.many import Progress, each, quiet
from clearflow.errors import NotFound, Refused, Usage
from clearflow.queues import line
from clearflow.queues.line import Room, Spot, Where
from clearflow.words import lifecycle
from clearflow.words.models import Queue, Run

_FIRST = datetime.min.replace(tzinfo=UTC)


async def move(
    api: Api,
    tasks: Sequence[Run],
    where: Where,
    *,
    queue: Queue,
    by: str,
    progress: Progress = quiet,
) -> list[Run]:
    """Move waiting tasks to a spot of this queue; those of another queue of its pool come over.

    They keep the order they have among each other. Returns their runs, new ones for those that
    came over. Raises Refused for tasks that do not wait (any more), after the others were moved.
    """
    if where.anchor is not None:
        where = Where(where.spot, await settled(api, where.anchor))
        _check_anchor(where.beside, tasks, queue)
    tasks = [await settled(api, run) for run in tasks]
    for run in tasks:
        _check(api, run, queue)
    ordered = sorted(tasks, key=lambda r: (r.queue_id != queue.id, r.place or _FIRST))
    if where.spot in {Spot.UP, Spot.DOWN}:
        return await _step(api, ordered, where.spot, queue, by, progress)
    text = f"moved {_words(where, queue, ordered)} by {by}"
    ids = {r.id for r in ordered}
    looking = line.room(api, queue.id, where, len(ordered), ids)
    if len(ordered) == 1:
        return [await _alone(api, ordered[0], queue, looking, by, text)]
    room = await looking
    await _shift(api, room.shifts, by)
    places = dict(zip((r.id for r in ordered), room.places, strict=True))

    async def one(run: Run) -> Run:
        return await place(api, run, queue, places[run.id], by, text)

    return await each(ordered, one, progress)


async def place(api: Api, run: Run, queue: Queue, at: datetime | None, by: str, text: str) -> Run:
    """Take one task and put it at a place of this queue (None: the back). Its run there."""
    async with holding(api, run, by, "moving") as held:
        return await _put(held, queue, at, text)


async def _alone(
    api: Api, run: Run, queue: Queue, looking: Coroutine[Any, Any, Room], by: str, text: str
) -> Run:
    """One task to a place that is still looked for: both at once is half the waiting."""
    search = asyncio.ensure_future(looking)
    try:
        async with holding(api, run, by, "moving") as held:
            room = await search
            await _shift(api, room.shifts, by)
            return await _put(held, queue, room.places[0], text)
    finally:
        search.cancel()
        await asyncio.wait({search})
        if not search.cancelled():
            search.exception()


async def _put(held: Held, queue: Queue, at: datetime | None, text: str) -> Run:
    if held.run.queue_id == queue.id:
        await held.put(at, text)
        return held.run
    return await hop(held, queue, at, text)


async def rename(api: Api, run: Run, by: str) -> bool:
    """Give a due run that Prefect named `Scheduled` or `Late` the name `Queued`, at its place.

    Left alone, Prefect's late-run service floods SQLite. False when it did not need it, or was
    taken by somebody.
    """
    due = run.state is not None and lifecycle.needs_renaming(run.state)
    if not due or run.later(api.clock.now()):
        return False
    with suppress(Refused, NotFound):
        async with holding(api, run, by, "renaming") as held:
            await held.put(held.place, "queued")
            return True
    return False


async def _step(
    api: Api, ordered: Sequence[Run], spot: Spot, queue: Queue, by: str, progress: Progress
) -> list[Run]:
    """Each one place up or down, past somebody who does not move."""
    up = spot is Spot.UP
    if stranger := next((r for r in ordered if r.queue_id != queue.id), None):
        raise Usage(
            f"{label(stranger)} waits in {stranger.queue_shown!r}, not in {queue.name!r}",
            hint="move it to the front or the back, or before or after a task of this queue",
        )
    ids = {r.id for r in ordered}
    beside = line.ahead if up else line.behind

    async def one(run: Run) -> Run:
        # Read again: those before it in this loop have moved.
        fresh = await runs.read(api, run.id) if len(ordered) > 1 else run
        two = await beside(api, queue.id, fresh, 2)
        passed = (two[-1] if up else two[0]) if two else None
        if passed is None or passed.id in ids:
            return fresh
        other = next((r for r in two if r is not passed), None)
        left, right = (other, passed) if up else (passed, other)
        looking = line.room_between(api, queue.id, left, right, 1, {run.id})
        return await _alone(api, fresh, queue, looking, by, f"moved {spot} by {by}")

    return await each(ordered if up else ordered[::-1], one, progress)


async def _shift(api: Api, shifts: Sequence[line.Shift], by: str) -> None:
    for shift in shifts:
        # Who has left the line in the meantime leaves room as well.
        with suppress(Refused, NotFound):
            async with holding(api, shift.run, by, "making room") as held:
                await held.put(shift.place, f"renumbered by {by}")


def _check(api: Api, run: Run, queue: Queue) -> None:
    if reason := not_waiting(run):
        raise Refused(reason[0], hint=reason[1])
    if run.later(api.clock.now()):
        raise Refused(f"{label(run)} is planned for later: it stands in no line yet")
    if run.pool != queue.pool:
        raise Refused(f"{label(run)} belongs to the work pool {run.pool!r}, not {queue.pool!r}")


def _check_anchor(anchor: Run, tasks: Sequence[Run], queue: Queue) -> None:
    if any(r.id == anchor.id for r in tasks):
        raise Usage(f"{label(anchor)} cannot be moved beside itself")
    if reason := not_waiting(anchor):
        raise Refused(reason[0], hint=reason[1])
    if anchor.queue_id != queue.id:
        raise Usage(f"{label(anchor)} waits in {anchor.queue_shown!r}, not in {queue.name!r}")


def _words(where: Where, queue: Queue, tasks: Sequence[Run]) -> str:
    spot = {
        Spot.FRONT: "to the front",
        Spot.BACK: "to the back",
    }.get(where.spot) or f"{where.spot} {label(where.beside)}"
    came = any(r.queue_id != queue.id for r in tasks)
    return f"{spot} of {queue.name}" if came else spot


async def home(api: Api, tasks: Sequence[Run], pool: str, name: str) -> Queue:
    """The queue of this name, without a request when a task that waits there knows it.

    Raises NotFound.
    """
    for run in tasks:
        if (
            run.queue_id
            and run.pool == pool
            and run.queue_shown == name
            and not_waiting(run) is None
        ):
            return Queue(id=run.queue_id, name=name, pool=pool)
    return await pools.queue(api, pool, name)
