"""Queues as records: made, listed, shown, changed and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clearflow._prefect import deployments, events, pools, runs
from clearflow._prefect.http import Api
from clearflow._prefect.many import Progress, quiet
from clearflow._prefect.situation import active, reason, situate
from clearflow._prefect.template import base_job_template
from clearflow.errors import Conflict, Refused, Usage
from clearflow.queues import line, moves
from clearflow.queues.line import Spot, Where
from clearflow.words import lifecycle
from clearflow.words.models import ACTIVE, Queue, Run
from clearflow.words.names import stored
from clearflow.words.why import Serving, Situation

_ACTIVE = {"state": {"type": {"any_": sorted(ACTIVE)}}}
DEFAULT = "default"  # Prefect makes it with every pool, and keeps it


@dataclass(frozen=True, slots=True)
class Overview:
    """A queue in a listing. `head` is the next task."""

    queue: Queue
    waiting: int
    later: int
    active: int
    head: Run | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task in the line: its number from 1, since when it waits, and why."""

    run: Run
    number: int
    since: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything about one queue; `line` may be cut, `waiting` counts them all."""

    situation: Situation
    line: Sequence[Waiting]
    waiting: int
    active: Sequence[Run]
    later: Sequence[Run]

    @property
    def queue(self) -> Queue:
        return self.situation.queue


async def create(
    api: Api, pool: str, name: str, *, limit: int | None = None, description: str = ""
) -> Queue:
    """A new queue, and its pool if that is not there yet. Raises Refused when the queue exists."""
    if not name.strip():
        raise Usage("a queue needs a name")
    _check_limit(limit)
    await pools.ensure(api, pool, base_job_template())
    try:
        return await pools.create_queue(api, pool, name, limit=limit, description=description)
    except Conflict:
        raise Refused(f"the queue {name!r} exists already") from None


async def overview(api: Api, pool: str) -> list[Overview]:
    """Every queue of a pool with its numbers, in the order in which they were made."""
    queues = await pools.queues(api, pool)
    busy: dict[str | None, int] = {}
    async for run in runs.find(api, _ACTIVE, pool=pool):
        busy[run.queue_id] = busy.get(run.queue_id, 0) + 1
    return [await _overview(api, q, busy.get(q.id, 0)) for q in queues]


async def _overview(api: Api, queue: Queue, running: int) -> Overview:
    everybody = await line.count(api, queue.id)
    if not everybody:
        return Overview(queue, 0, 0, running, None)
    due = await line.standing_before(api, queue.id, line.soon(api))
    head = await anext(line.waiting(api, queue.id, limit=8), None)
    return Overview(queue, due, everybody - due, running, head)


async def show(
    api: Api, pool: str, name: str, agents: Sequence[Serving], *, limit: int | None = 100
) -> Shown:
    """One queue: who waits, since when and why, who runs, and what is planned for later."""
    queue = await pools.queue(api, pool, name)
    situation = await situate(api, queue, agents)
    listed = [r async for r in line.waiting(api, queue.id, limit=limit)]
    waiting, soon = len(listed), line.soon(api)
    if limit is not None and waiting >= limit:
        waiting = await line.standing_before(api, queue.id, soon)
    return Shown(
        situation=situation,
        line=[
            Waiting(run, number, lifecycle.since(run), reason(run, situation, number - 1))
            for number, run in enumerate(listed, 1)
        ],
        waiting=waiting,
        active=[r async for r in runs.find(api, _ACTIVE, queue_id=queue.id)],
        later=[
            r
            async for r in line.waiting(
                api, queue.id, after=line.soon(api), later=True, limit=limit
            )
        ],
    )


async def pause(api: Api, pool: str, name: str, paused: bool = True) -> None:
    """Agents are offered nothing of a paused queue; what runs, runs on."""
    await _change(api, pool, name, is_paused=paused)


async def limit(api: Api, pool: str, name: str, tasks: int | None) -> None:
    """How many tasks of the queue may run at once; None for as many as there are agents."""
    _check_limit(tasks)
    await _change(api, pool, name, concurrency_limit=tasks)


def _check_limit(tasks: int | None) -> None:
    if tasks is not None and tasks < 0:
        raise Usage("a limit cannot be negative", hint="0 keeps every task waiting")


async def _change(api: Api, pool: str, name: str, **changes: Any) -> None:
    queue = await pools.queue(api, pool, name)
    await pools.change_queue(api, pool, queue.name, **changes)
    # Prefect tells nobody, and idle agents would find out a minute later.
    await events.emit(
        api,
        events.QUEUE_CHANGED,
        f"clearflow.queue.{queue.id}",
        related={f"prefect.work-pool.{(await pools.read(api, pool))['id']}": "work-pool"},
    )


async def delete(
    api: Api,
    pool: str,
    name: str,
    *,
    move_to: str | None = None,
    by: str,
    progress: Progress = quiet,
) -> int:
    """Delete a queue; its tasks go to the back of `move_to`. Returns how many went.

    Refuses while tasks wait and `move_to` is None, and while tasks of it run: a task that is lost
    goes back to its queue. Deployments that send their runs here are pointed at `move_to`, or
    the default queue.
    """
    queue = await pools.queue(api, pool, name)
    if name == move_to:
        raise Usage("the tasks have to go to another queue than the one that is deleted")
    heir = await pools.queue(api, pool, move_to or DEFAULT)
    if queue.id == heir.id:
        raise Refused(f"Prefect keeps the queue {name!r} of every pool")
    if running := await active(api, queue):
        raise Refused(
            f"{_tasks(running)} of the queue {name!r} {'is' if running == 1 else 'are'} running",
            hint="`clearflow queue pause` it and wait, or abort them",
        )
    waiting = await line.standing_before(api, queue.id, line.soon(api))
    if waiting and move_to is None:
        raise Refused(
            f"{_tasks(waiting)} {'waits' if waiting == 1 else 'wait'} in the queue {name!r}",
            hint="`--move-to QUEUE` moves them, `clearflow queue clear` makes drafts of them",
        )
    # Before anything moves, so that schedules make no further runs here.
    await deployments.repoint(api, queue.id, pool=pool, queue=stored(heir.name))
    moved = await _move_all(api, queue, heir, waiting, by, progress)
    if left := await line.count(api, queue.id):
        raise Refused(
            f"{_tasks(left)} of the queue {name!r} planned for later, or just queued",
            hint="`clearflow queue show` lists them",
        )
    await pools.delete_queue(api, pool, name)
    return moved


async def _move_all(
    api: Api, queue: Queue, heir: Queue, total: int, by: str, progress: Progress
) -> int:
    moved = 0
    while page := [r async for r in line.waiting(api, queue.id, limit=runs.PAGE)]:
        for run in page:
            await moves.move(api, [run], Where(Spot.BACK), queue=heir, by=by)
            moved += 1
            progress(moved, max(total, moved))
    return moved


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
