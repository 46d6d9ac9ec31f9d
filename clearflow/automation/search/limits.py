"""How long a search may go on. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from clearflow import clock
from clearflow.automation.search.settings import SearchSettings
from clearflow.words.models import Run

LIMIT = "clearflow.search.limit"
"""The label of a search, when somebody has set another end for it: that moment, or `never`; and
the event that tells it."""
NEVER = "never"


def until(
    settings: SearchSettings,
    began: datetime,
    tasks: Collection[Run],
    now: datetime,
    said: str = "",
) -> datetime | None:
    """When its time will be over, as things are; None for never. `said` is what LIMIT says."""
    ends = []
    if said and said != NEVER:
        ends.append(clock.parse(said))
    elif not said and settings.optimization_time_limit is not None:
        ends.append(began + timedelta(minutes=settings.optimization_time_limit))
    if settings.compute_time_limit is not None:
        left = timedelta(minutes=settings.compute_time_limit) - used(tasks, now)
        running = sum(run.started is not None and run.ended is None for run in tasks)
        if running or left <= timedelta():
            ends.append(now + left / max(running, 1))
    return min(ends, default=None)


def used(tasks: Collection[Run], now: datetime) -> timedelta:
    """The time of these tasks together."""
    spans = [(run.ended or now) - run.started for run in tasks if run.started is not None]
    return sum((max(span, timedelta()) for span in spans), timedelta())
