"""What the stream drops is found among what the server has stored, once it has stored all of it."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from clearflow import clock
from clearflow._prefect import events
from clearflow._prefect.events import CONNECTED, Event
from clearflow._prefect.http import Api
from clearflow.automation import feed as engine
from clearflow.automation.cursor import Cursor
from clearflow.automation.feed import Feed


class Leaping(selectors.DefaultSelector):
    """Has the time of an event loop leap to its next moment, instead of waiting for that."""

    moment = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.moment += timeout or 0.0
        return super().select(0)


def _event(name: str) -> Event:
    return Event("clearflow.thing", name, {}, {}, occurred=clock.now(), id=name)


def test_the_last_look_is_late_enough_for_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    leaping = Leaping()
    loop = asyncio.SelectorEventLoop(leaping)
    loop.time = lambda: leaping.moment  # type: ignore[method-assign]
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=loop.time))
    stored_after = engine._STORED
    looks: list[float] = []
    told: list[float] = []
    stored: list[Event] = []

    async def stream(*_: Any) -> AsyncIterator[Event]:
        yield CONNECTED
        # The second comes before the first is looked for, and is not stored by then.
        for number, name in enumerate(("first", "second"), 1):
            comes = loop.create_future()
            loop.call_at(number * stored_after * 0.8, comes.set_result, None)
            await comes
            told.append(loop.time())
            stored.append(_event(f"dropped beside the {name}"))
            yield _event(name)
        await asyncio.Event().wait()

    async def happened(*_: Any) -> AsyncIterator[Event]:
        looks.append(loop.time())
        # The server has those that are old enough.
        for each, at in zip(stored, told, strict=True):
            if looks[-1] >= at + stored_after:
                yield each

    async def follow() -> list[str]:
        cursor = Cursor(clock.now() - timedelta(seconds=1))
        feed = Feed(Api.__new__(Api), ["clearflow.thing"], cursor)
        api: Any = feed._api
        api.connection = None
        listening = asyncio.create_task(feed.listen())
        found: list[str] = []
        while len(found) < 4 and loop.time() < 600:
            news = await feed.next(every=60.0)
            cursor.deal_with(news)
            found += [event.id for event in news]
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        return found

    monkeypatch.setattr(events, "stream", stream)
    monkeypatch.setattr(events, "happened", happened)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        found = runner.run(follow())
    dropped = ["dropped beside the first", "dropped beside the second"]
    assert sorted(found) == [*dropped, "first", "second"]
    assert told[-1] + stored_after <= looks[-1] < told[-1] + stored_after + 1
