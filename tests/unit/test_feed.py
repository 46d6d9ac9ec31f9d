"""What the stream drops is found among what the server has stored, once it has stored all of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from clearflow import clock
from clearflow._prefect import events
from clearflow._prefect.events import CONNECTED, Event
from clearflow._prefect.http import Api
from clearflow.automation import feed as engine
from clearflow.automation.cursor import Cursor
from clearflow.automation.feed import Feed

_STORED = 0.4


def _event(name: str) -> Event:
    return Event("clearflow.thing", name, {}, {}, occurred=clock.now(), id=name)


async def test_the_last_look_is_late_enough_for_the_last_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []
    told: list[float] = []
    stored: list[Event] = []

    async def stream(*_: Any) -> AsyncIterator[Event]:
        yield CONNECTED
        for name in ("first", "second"):
            await asyncio.sleep(_STORED * 0.8)
            told.append(time.monotonic())
            stored.append(_event(f"dropped beside the {name}"))
            yield _event(name)
        await asyncio.Event().wait()

    async def happened(*_: Any) -> AsyncIterator[Event]:
        looks.append(time.monotonic())
        # The server has those that are old enough.
        for each, at in zip(stored, told, strict=True):
            if looks[-1] >= at + _STORED:
                yield each

    monkeypatch.setattr(events, "stream", stream)
    monkeypatch.setattr(events, "happened", happened)
    monkeypatch.setattr(engine, "_STORED", _STORED)
    monkeypatch.setattr(engine, "_COMMITS", 0.0)
    cursor = Cursor(clock.now() - timedelta(seconds=1))
    feed = Feed(Api.__new__(Api), ["clearflow.thing"], cursor)
    api: Any = feed._api
    api.connection = None
    listening = asyncio.create_task(feed.listen())
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < 4:
            news = await feed.next(every=60.0)
            cursor.deal_with(news)
            found += [event.id for event in news]
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    assert sorted(found) == [
        "dropped beside the first",
        "dropped beside the second",
        "first",
        "second",
    ]
    assert looks[-1] >= told[-1] + _STORED
