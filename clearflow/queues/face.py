"""The queue as people's programs use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from clearflow._prefect import pools, seam
from clearflow._prefect.http import Api
from clearflow._prefect.many import Progress, quiet, resolve
from clearflow.capture.owner import owner
from clearflow.queues import drafts, line, moves, records
from clearflow.queues.line import Spot, Where
from clearflow.settings import settings
from clearflow.words import models
from clearflow.words.models import Run

T = TypeVar("T")


class HasId(Protocol):
    """Anything that stands for a task."""

    @property
    def task_id(self) -> str: ...


Task = str | HasId


def _id(task: Task) -> str:
    return task if isinstance(task, str) else task.task_id


class Queue:
    """An ordered line of tasks that agents serve.

    Tasks are given by id or as objects; a task that waits in another queue comes over. Every
    method asks the server at once and returns when it has answered.
    """

    def __init__(self, name: str, *, pool: str | None = None) -> None:
        self.name = name
        self.pool = pool or settings().pool

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    def create(self, *, limit: int | None = None, description: str = "") -> Queue:
        """Make it. Raises Refused when it exists."""
        seam.run(
            lambda api: records.create(
                api, self.pool, self.name, limit=limit, description=description
            )
        )
        return self

    def delete(self, *, move_to: str | None = None) -> None:
        """Delete it. Raises Refused while tasks wait and `move_to` names no queue for them."""
        seam.run(lambda api: records.delete(api, self.pool, self.name, move_to=move_to, by=owner()))

    def tasks(self) -> list[Run]:
        """The tasks that wait, in the order in which agents take them."""

        async def ask(api: Api, queue: models.Queue) -> list[Run]:
            return [run async for run in line.waiting(api, queue.id)]

        return self._ask(ask)

    def move_to_front(self, *tasks: Task) -> None:
        """Tasks to the front, in the order they have among each other."""
        self._move(tasks, Spot.FRONT)

    def move_to_back(self, *tasks: Task) -> None:
        """Tasks to the back, in the order they have among each other."""
        self._move(tasks, Spot.BACK)

    def move_up(self, *tasks: Task) -> None:
        """Each task one place to the front."""
        self._move(tasks, Spot.UP)

    def move_down(self, *tasks: Task) -> None:
        """Each task one place to the back."""
        self._move(tasks, Spot.DOWN)

    def move_before(self, *tasks: Task, other: Task) -> None:
        """Tasks to directly before another one, in the order they have among each other."""
        self._move(tasks, Spot.BEFORE, other)

    def move_after(self, *tasks: Task, other: Task) -> None:
        """Tasks to directly after another one, in the order they have among each other."""
        self._move(tasks, Spot.AFTER, other)

    def clear(self, progress: Progress = quiet) -> int:
        """Make drafts of all who wait now. Returns how many."""
        return self._ask(lambda api, queue: drafts.clear(api, queue, by=owner(), progress=progress))

    def pause(self) -> None:
        """Start nothing more of this queue; what runs, runs on."""
        seam.run(lambda api: records.pause(api, self.pool, self.name))

    def resume(self) -> None:
        """Start tasks of this queue again."""
        seam.run(lambda api: records.pause(api, self.pool, self.name, paused=False))

    @property
    def limit(self) -> int | None:
        """How many tasks of this queue may run at once; None for no limit."""
        return self._record().limit

    @limit.setter
    def limit(self, tasks: int | None) -> None:
        seam.run(lambda api: records.limit(api, self.pool, self.name, tasks))

    @property
    def paused(self) -> bool:
        """Whether nothing of this queue is started."""
        return self._record().paused

    def _record(self) -> models.Queue:
        return seam.run(lambda api: pools.queue(api, self.pool, self.name))

    def _ask(self, ask: Callable[[Api, models.Queue], Awaitable[T]]) -> T:
        async def with_queue(api: Api) -> T:
            return await ask(api, await pools.queue(api, self.pool, self.name))

        return seam.run(with_queue)

    def _move(self, tasks: tuple[Task, ...], spot: Spot, other: Task | None = None) -> None:
        async def ask(api: Api) -> list[Run]:
            found = await resolve(api, map(_id, tasks))
            anchor = (await resolve(api, [_id(other)]))[0] if other is not None else None
            queue = await moves.home(api, found, self.pool, self.name)
            return await moves.move(api, found, Where(spot, anchor), queue=queue, by=owner())

        if tasks:
            seam.run(ask)
