"""The line of a queue: who stands in it, and which places are free beside whom.

Nothing here lists a whole line to find a neighbour: with 10,000 tasks waiting that takes seconds.
"""

from __future__ import annotations

import enum
import random
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import Usage
from clearflow.words import lifecycle, order
from clearflow.words.models import Run

# There is room without end in front of a line, and chance needs some.
_IN_FRONT = timedelta(milliseconds=100)


class Spot(enum.StrEnum):
    """Where in the line a task goes."""

    FRONT = "front"
    BACK = "back"
    UP = "up"
    DOWN = "down"
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Where:
    """A spot; BEFORE and AFTER with the task that is meant."""

    spot: Spot
    anchor: Run | None = None

    @property
    def beside(self) -> Run:
        """The task beside which it goes. Raises Usage when none was named."""
        if self.anchor is None:
            raise Usage(f"{self.spot} which task?")
        return self.anchor


@dataclass(frozen=True, slots=True)
class Shift:
    """A neighbour who has to make room, and the place it goes to."""

    run: Run
    place: datetime


@dataclass(frozen=True, slots=True)
class Room:
    """Free places in the order of the line; None is the back, as the server's clock says then.

    `shifts` have to be written first, in this order.
    """

    places: Sequence[datetime | None]
    shifts: Sequence[Shift] = ()


async def waiting(
    api: Api,
    queue_id: str,
    *,
    limit: int | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
    offset: int = 0,
    later: bool = False,
) -> AsyncIterator[Run]:
    """The tasks that wait, in order; with `later` those planned for a later time instead.

    `after` and `before` are places, and include the tasks that stand there.
    """
    where = runs.placed(after, before)
    found = runs.find(api, where, queue_id=queue_id, sort=runs.BY_PLACE, limit=limit, offset=offset)
    async for run in found:
        if not lifecycle.is_waiting(run):
            continue
        if run.later(api.clock.now()) == later:
            yield run
        elif not later:
            return


def soon(api: Api) -> datetime:
    """A moment before which all who are due stand; the server's clock is known to a second."""
    return api.clock.now() + timedelta(seconds=2)


async def count(api: Api, queue_id: str) -> int:
    """How many runs of the queue are scheduled, due or not."""
    return await runs.count(api, runs.placed(), queue_id=queue_id)


async def standing_before(api: Api, queue_id: str, place: datetime) -> int:
    """How many runs of the queue are scheduled for this place or before it."""
    return await runs.count(api, runs.placed(before=place), queue_id=queue_id)


async def ahead(
    api: Api, queue_id: str, run: Run, count: int = 1, skip: Collection[str] = ()
) -> list[Run]:
    """The last so many who stand in front of a task, in order, those to skip left out."""
    assert run.place is not None
    # Prefect sorts by place in one direction only, so the end of what comes before is counted.
    index = await standing_before(api, queue_id, run.place)
    size = 8 + count + len(skip)
    while True:
        offset = max(0, index - size)
        page = waiting(api, queue_id, before=run.place, offset=offset, limit=index - offset + 8)
        others = [r async for r in page if r.id != run.id and r.id not in skip]
        if len(others) >= count or offset == 0:
            return others[-count:]
        size *= 8


async def behind(
    api: Api, queue_id: str, run: Run, count: int = 1, skip: Collection[str] = ()
) -> list[Run]:
    """The first so many who stand behind a task, in order, those to skip left out."""
    page = waiting(api, queue_id, after=run.place, limit=8 + count + len(skip))
    return [r async for r in page if r.id != run.id and r.id not in skip][:count]


async def room(
    api: Api, queue_id: str, where: Where, count: int, moving: Collection[str] = ()
) -> Room:
    """Places for so many tasks at FRONT, BACK, BEFORE or AFTER; `moving` are their runs' ids."""
    match where.spot:
        case Spot.FRONT:
            right = await _head(api, queue_id, moving)
            return await room_between(api, queue_id, None, right, count, moving)
        case Spot.BEFORE:
            before = await ahead(api, queue_id, where.beside, 1, moving)
            left = before[0] if before else None
            return await room_between(api, queue_id, left, where.beside, count, moving)
        case Spot.AFTER:
            after = await behind(api, queue_id, where.beside, 1, moving)
            right = after[0] if after else None
            return await room_between(api, queue_id, where.beside, right, count, moving)
    return Room([None] * count)


async def _head(api: Api, queue_id: str, moving: Collection[str]) -> Run | None:
    """The first who waits and does not move; every run that is asked for costs the server time."""
    for limit in (1 + len(moving), 8 + len(moving), None):
        async for run in waiting(api, queue_id, limit=limit):
            if run.id not in moving:
                return run
    return None


async def room_between(
    api: Api,
    queue_id: str,
    left: Run | None,
    right: Run | None,
    count: int,
    moving: Collection[str] = (),
) -> Room:
    """Places for so many tasks between two neighbours; None for no neighbour on that side."""
    if right is None or right.place is None:
        return Room([None] * count)
    places = spread(left.place if left else None, right.place, count)
    if places is not None:
        return Room(places)
    return await _make_room(api, queue_id, right, count, moving)


def spread(left: datetime | None, right: datetime, count: int) -> list[datetime] | None:
    """So many places between two neighbours; None when there are not enough microseconds.

    They are shifted together by chance, so that two people who move into the same gap at the same
    moment do not get the same place.
    """
    step = _IN_FRONT if left is None else (right - left) / (count + 1)
    if step < order.TICK * 4:
        # Too little for chance to play a part: only as many as fit exactly.
        if left is None or step < order.TICK:
            return None
        return [left + step * (k + 1) for k in range(count)]
    chance = timedelta(microseconds=random.uniform(-0.4, 0.4) * (step / order.TICK))
    return [right - step * (count - k) + chance for k in range(count)]


async def _make_room(
    api: Api, queue_id: str, right: Run, count: int, moving: Collection[str]
) -> Room:
    """Places in front of a task for which neighbours have to be renumbered, as few as can be."""
    assert right.place is not None
    end = await standing_before(api, queue_id, right.place)
    size = 50 + len(moving)
    while True:
        start = max(0, end - size)
        window = waiting(api, queue_id, before=right.place, offset=start, limit=end - start + 8)
        stand = [r async for r in window if r.id not in moving]
        room = _renumbered(stand, right, count, api.clock.now())
        if start == 0 or not room.shifts or room.shifts[0].run.id != stand[0].id:
            return room
        # The gap may lie further in front.
        size *= 8


def _renumbered(stand: Sequence[Run], right: Run, count: int, now: datetime) -> Room:
    """Room in front of `right` among those who stand in front of it."""
    assert right.place is not None
    line: list[tuple[Run | None, datetime]] = [(r, r.place) for r in stand if r.place is not None]
    # Whoever has left the line in the meantime leaves its place, which is as good as before.
    index = next((i for i, (r, _) in enumerate(line) if r and r.id == right.id), len(line))
    shifts: dict[str, Shift] = {}
    for number in range(index, index + count):
        back = max(now, right.place)
        for position, place in order.insert([p for _, p in line], number, back):
            if position == number:
                line.insert(number, (None, place))
                continue
            neighbour = line[position][0]
            line[position] = (neighbour, place)
            if neighbour is not None:
                shifts[neighbour.id] = Shift(neighbour, place)
    places = [place for run, place in line if run is None]
    ordered = sorted(shifts.values(), key=lambda s: s.place)
    return Room(places, tuple(ordered))
