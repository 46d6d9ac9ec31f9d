"""Out of the line and into it: tasks that become drafts, and drafts that are queued."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from clearflow._prefect import claims, runs
from clearflow._prefect.holds import holding, label, not_waiting
from clearflow._prefect.hops import hop_draft
from clearflow._prefect.http import Api
from clearflow._prefect.many import WIDTH, Progress, each, quiet
from clearflow.errors import Conflict, NotFound, Refused, Usage
from clearflow.queues import line, moves
from clearflow.words import lifecycle
from clearflow.words.models import COMPLETED, PAUSED, SCHEDULED, Queue, Run


async def dequeue(
    api: Api, tasks: Sequence[Run], *, by: str, progress: Progress = quiet
) -> list[Run]:
    """Take waiting tasks out of their lines: they become drafts. Returns those runs."""

    async def one(run: Run) -> Run:
        if reason := not_waiting(run):
            raise Refused(reason[0], hint=reason[1])
        async with holding(api, run, by, "taking it out of the queue") as held:
            await held.draft(by)
        return run

    return await each(tasks, one, progress, width=WIDTH)


async def clear(api: Api, queue: Queue, *, by: str, progress: Progress = quiet) -> int:
    """Make drafts of all who wait in a queue now; later ones stay. Returns how many.

    Tasks that are started meanwhile run on.
    """
    until = line.soon(api)
    total = await line.standing_before(api, queue.id, until)
    done, passed = 0, 0

    async def one(run: Run) -> None:
        nonlocal done, passed
        try:
            async with holding(api, run, by, "clearing the queue") as held:
                await held.draft(by)
            done += 1
        except Refused:
            passed += await _still_waits(api, run)
        except NotFound:
            return
        progress(done, max(total, done))

    progress(done, total)
    while True:
        # Whoever becomes a draft leaves the line, so the next ones are at its head.
        head = line.waiting(api, queue.id, before=until, limit=runs.PAGE, offset=passed)
        page = [run async for run in head]
        if not page:
            return done
        await each(page, one, width=WIDTH)


async def _still_waits(api: Api, run: Run) -> bool:
    with suppress(NotFound):
        fresh = await runs.read(api, run.id)
        return fresh.state is not None and fresh.state.type == SCHEDULED
    return False


async def enqueue(
    api: Api,
    tasks: Sequence[Run],
    *,
    queue: Queue | None = None,
    by: str,
    progress: Progress = quiet,
) -> list[Run]:
    """Queue drafts, and tasks that were aborted or failed, at the back of a line.

    Without a queue each goes to its own; a task that waits elsewhere comes over. Returns their
    runs, new ones for those that changed queues.
    """

    async def one(run: Run) -> Run:
        return await _enqueue(api, run, queue, by)

    return await each(tasks, one, progress)


async def _enqueue(api: Api, run: Run, queue: Queue | None, by: str) -> Run:
    _check(run, queue)
    if run.state is not None and run.state.type == SCHEDULED:
        assert queue is not None
        return await moves.place(api, run, queue, None, by, f"moved to {queue.name} by {by}")
    write = lifecycle.enqueued(by, api.clock.now())
    if queue is not None and queue.id != run.queue_id:
        if run.pool not in {queue.pool, None}:
            raise Refused(f"{label(run)} belongs to the work pool {run.pool!r}: it stays there")
        return await hop_draft(api, run, queue, write, by)
    if await claims.requeue(api, run, write, by=by) is None:
        raise Conflict(f"somebody else has just queued or moved {label(run)}")
    return run


def _check(run: Run, queue: Queue | None) -> None:
    """Raise unless the task may be queued, there."""
    task, state = label(run), run.state
    if run.queue_id is None and queue is None:
        raise Usage(f"{task} belongs to no queue", hint="name one: `--queue cpu`")
    if state is None:
        return
    if state.type == COMPLETED:
        raise Refused(f"{task} has completed", hint="a new task of its kind can be queued")
    if state.type == PAUSED and state.name != lifecycle.DRAFT:
        raise Refused(f"{task} is paused within Prefect", hint="`prefect flow-run resume`")
    if state.final or state.type == PAUSED:
        return
    if reason := not_waiting(run):
        raise Refused(reason[0], hint=reason[1])
    if queue is None or queue.id == run.queue_id:
        raise Refused(f"{task} waits in {run.queue_shown!r} already")
