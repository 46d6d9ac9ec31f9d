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


def insert(line: Sequence[datetime], index: int, back: datetime) -> list[tuple[int, datetime]]:
    """Places to write so that a new task stands at `index` of a line.

    `line` holds the places of the others, in order; `back` is the server's time. Returns pairs
    (position in the new line, place), the new task last. Tasks in front of it are among them only
    where no microsecond was left, as few as can be, and in the order in which they have to be
    written: nobody ever passes a neighbour, so whoever stops halfway leaves the line in order.

    A place in the future hides a task, so neighbours are pushed towards the past, and no place is
    later than `back`, or than what stands there already.
    """
    if not 0 <= index <= len(line):
        raise ValueError(f"index {index} outside a line of {len(line)}")
    if index == len(line):
        return [(index, max(back, line[-1] + TICK) if line else back)]
    right = line[index]
    for first in range(index, 0, -1):
        left, count = line[first - 1], index - first + 1
        room = (right - left) // TICK
        if room > count:
            places = [left + TICK * (room * (n + 1) // (count + 1)) for n in range(count)]
            break
    else:
        first = 0
        places = [right - GAP * (index + 1 - n) for n in range(index + 1)]
    return list(enumerate(places, first))
