"""What happened on the server, each thing once, also while nobody listened or looked.

    heard on the stream, at once ─┬─ less what was dealt with
    stored since the cursor ──────┘

The stream drops events when many come at once, so what the server has stored is looked at soon
after the last one was heard. A server that is killed loses the last ones: for tasks that ended,
their runs are looked at as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from clearflow import clock
from clearflow._prefect import events, runs
from clearflow._prefect.events import CONNECTED, FLOW_RUN, Event
from clearflow._prefect.http import Api
from clearflow.automation.cursor import Cursor
from clearflow.words.models import FINAL, Run

_COMMITS = 0.3  # seconds from an event to the commit of the change that it tells of
_STORED = 8.0  # seconds until the server has stored an event: it does so in batches
LOOKS_AGAIN = 30.0  # seconds between two looks that nothing has caused
_RECONCILES = timedelta(minutes=5)


class Feed:
    """Events of some names. Whoever has dealt with them says so to the cursor, and keeps that."""

    def __init__(self, api: Api, names: Sequence[str], cursor: Cursor) -> None:
        self.cursor = cursor
        self._api, self._names = api, names
        self._ends = {n.removeprefix(FLOW_RUN) for n in names if n.startswith(FLOW_RUN)}
        self._heard: list[Event] = []
        self._woken = asyncio.Event()
        # When what is stored has to be looked at, by time.monotonic(); the runs, since when not.
        self._due = time.monotonic()
        self._last = -math.inf  # when something was heard
        self._reconciled: datetime | None = None

    async def listen(self) -> None:
        """Hear of new ones, for ever; to be run beside `next`."""
        async for event in events.stream(self._api.connection, (), self._names):
            if event is CONNECTED:
                self._due, self._reconciled = time.monotonic(), None
            else:
                self._heard.append(event)
                self._last = time.monotonic()
                self._due = min(self._due, self._last + _STORED)
            self._woken.set()

    async def next(self, every: float = LOOKS_AGAIN) -> list[Event]:
        """What is new, the oldest first, once there is something; after so long be it nothing."""
        end = time.monotonic() + every
        while not self._heard and time.monotonic() < min(end, self._due):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(end, self._due) - time.monotonic()):
                    await self._woken.wait()
            self._woken.clear()
        if self._heard:
            await asyncio.sleep(_COMMITS)
        found, self._heard = self._heard, []
        if time.monotonic() >= min(end, self._due):
            # What came a moment ago is not stored yet, nor what the stream has dropped beside it.
            stored = self._last + _STORED
            self._due = stored if stored > time.monotonic() else math.inf
            found += await self._look()
        return self.cursor.fresh(found)

    async def _look(self) -> list[Event]:
        since = self.cursor.since
        found = [e async for e in events.happened(self._api, self._names, since)]
        now = clock.now()
        if self._ends and (self._reconciled is None or now - self._reconciled > _RECONCILES):
            found += [_as_event(run) async for run in self._ended(since)]
            self._reconciled = now
        return found

    async def _ended(self, since: datetime) -> AsyncIterator[Run]:
        where = {
            "end_time": {"after_": since.isoformat()},
            "state": {"type": {"any_": sorted(FINAL)}},
        }
        async for run in runs.find(self._api, where):
            if run.state is not None and run.state.name in self._ends:
                yield run


def _as_event(run: Run) -> Event:
    """The event of the run's state: Prefect gives it the id of the state."""
    assert run.state is not None
    told = {"type": run.state.type, "name": run.state.name, "message": run.state.message}
    return Event(
        name=f"{FLOW_RUN}{run.state.name}",
        resource=f"{FLOW_RUN}{run.id}",
        related={},
        payload={"validated_state": told},
        state_type=run.state.type,
        occurred=run.state.at,
        id=run.state.id,
    )
