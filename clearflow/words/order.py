"""The order of a queue: a place in the line is a timestamp, unique within the queue.

Prefect serves a queue by `next_scheduled_start_time`, to the microsecond. These functions say
which times to write so that a task stands where it was asked to stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

TICK = timedelta(microseconds=1)
GAP = timedelta(milliseconds=1)


def before(head: datetime) -> datetime:
    """A place in front of the head of a line."""
    return head - GAP


def between(left: datetime, right: datetime) -> datetime | None:
    """A place strictly between two neighbours; None when no microsecond is left between them."""
    middle = left + (right - left) / 2
    return middle if left < middle < right else None


def insert(line: Sequence[datetime], index: int, back: datetime) -> list[tuple[int, datetime]]:
    """Places to write so that a new task stands at `index` of a line.

    `line` holds the places of the others, in order; `back` is a place behind all of them that is
    already due (the server's time). Returns pairs (position in the new line, place), the new task
    among them, in the order in which they have to be written; more than one pair only where
    neighbours had to be renumbered to make room. A place in the future would hide a task, so
    renumbering pushes towards the past.
    """
    if not 0 <= index <= len(line):
        raise ValueError(f"index {index} outside a line of {len(line)}")
    if not line:
        return [(0, back)]
    if index == 0:
        return [(0, before(line[0]))]
    if index == len(line):
        if back > line[-1]:
            return [(index, back)]
    else:
        middle = between(line[index - 1], line[index])
        if middle is not None:
            return [(index, middle)]
    return _make_room(line, index, back)


def _make_room(line: Sequence[datetime], index: int, back: datetime) -> list[tuple[int, datetime]]:
    """Renumber the fewest tasks in front of `index` that leave a gap for each."""
    right = line[index] if index < len(line) else max(back, line[-1] + TICK)
    # Walk towards the front until the tasks from there to `index` fit with a tick between them.
    first = index
    while True:
        left = line[first - 1] if first > 0 else None
        count = index - first + 1  # the renumbered ones and the new task
        if left is None:
            step = GAP
            start = right - step * (count + 1)
            break
        step = (right - left) / (count + 1)
        if step >= TICK:
            start = left
            break
        first -= 1
    # From the back: each is written into room that is free at that moment.
    places = [(first + k, start + step * (k + 1)) for k in range(count)]
    return _writable(places, index)


def _writable(
    places: list[tuple[int, datetime]], index: int
) -> list[tuple[int, datetime]]:
    """The neighbours first, front to back (they move towards the past), the new task last."""
    return [p for p in places if p[0] != index] + [p for p in places if p[0] == index]
