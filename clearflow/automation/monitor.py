"""Watching over tasks, queues and agents, and telling channels what somebody wants to know."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from clearflow import agents
from clearflow._prefect.events import Event
from clearflow._prefect.http import Api
from clearflow._prefect.keepsakes import Keepsake
from clearflow.automation import blockkit
from clearflow.automation.alerts import (
    BUDGET,
    LOST,
    TOGETHER,
    Alert,
    Wanted,
    about,
    kind_of,
    names_of,
    standing,
)
from clearflow.automation.channels import Channel, Message
from clearflow.automation.cursor import Cursor
from clearflow.automation.feed import LOOKS_AGAIN, Feed
from clearflow.automation.telling import Teller
from clearflow.errors import ClearflowError
from clearflow.queues import records
from clearflow.settings import settings
from clearflow.tasks import find as finding
from clearflow.tasks import logs, results
from clearflow.tasks.describe import describe
from clearflow.words.models import Run

KIND = "monitor"


@dataclass(frozen=True)
class Order:
    """What to watch for. Minutes that are None are not watched."""

    wanted: Wanted = field(default_factory=Wanted)
    min_iterations: int = 0
    wait_minutes: float | None = None
    agent_down: bool = True
    idle_minutes: float | None = None
    prefix: str = ""
    console_lines: int = 10
    looks: float = LOOKS_AGAIN


class Watch:
    """Watches under a name; of that name one at a time, which goes on where the last one stopped.

    `say` is told in a line what it does.
    """

    def __init__(
        self,
        api: Api,
        name: str,
        order: Order,
        channels: Sequence[Channel],
        say: Callable[[str], None],
    ) -> None:
        self._api, self._order, self._say = api, order, say
        self._keepsake = Keepsake(api, KIND, name)
        self._tellers = [Teller(c, self._compose, self._keep, say) for c in channels]
        self._cursor = Cursor(api.clock.now())
        self._matters: list[str] = []
        self._idle: dict[str, str] = {}
        self._minute: datetime | None = None
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Watch, for ever."""
        await self._load()
        wanted = [*self._order.wanted.kinds, BUDGET]
        feed = Feed(self._api, names_of(wanted), self._cursor)
        async with asyncio.TaskGroup() as group:
            group.create_task(feed.listen())
            for teller in self._tellers:
                group.create_task(teller.run())
            while True:
                await self._deal_with(await feed.next(self._order.looks))

    async def _load(self) -> None:
        data = await self._keepsake.read()
        if data is None:
            await self._keep()
            return
        self._cursor = Cursor.parse(data["cursor"])
        self._matters, self._idle = list(data["matters"]), dict(data["idle"])
        for teller in self._tellers:
            if (own := data["channels"].get(teller.channel.name)) is not None:
                teller.load(own)
        self._say(f"goes on from {self._cursor.at:%Y-%m-%d %H:%M:%S} UTC")

    async def _keep(self) -> None:
        async with self._writing:
            await self._keepsake.write(
                {
                    "cursor": self._cursor.dump(),
                    "matters": self._matters,
                    "idle": self._idle,
                    "channels": {t.channel.name: t.dump() for t in self._tellers},
                }
            )

    async def _deal_with(self, events: Sequence[Event]) -> None:
        """What is new, and once a minute what is the matter."""
        found = await self._alerts(events)
        now = self._api.clock.now()
        # Agents that the server forgets with a restart are heard of again within a minute.
        if self._minute is None or now - self._minute > timedelta(seconds=55):
            self._minute = now
            with contextlib.suppress(ClearflowError):
                found += await self._look_around(now)
        if not events and not found:
            return
        self._cursor.deal_with(events)
        for teller in self._tellers:
            teller.add(found)
        await self._keep()
        for alert in found:
            self._say(f"noticed: {alert.kind} {alert.name}" + (f" {alert.task}" * bool(alert.task)))

    async def _alerts(self, events: Sequence[Event]) -> list[Alert]:
        kinds = {e.id: kind for e in events if (kind := kind_of(e)) is not None}
        ids = sorted({e.run_id for e in events if e.id in kinds and e.run_id is not None})
        seen = {run.id: run for run in await finding.by_runs(self._api, ids)}
        found = []
        for event in events:
            kind = kinds.get(event.id)
            if kind == BUDGET:
                text = str(event.payload.get("text", ""))
                found.append(Alert(BUDGET, str(event.payload.get("name", event.resource)), text))
                continue
            run = seen.get(event.run_id or "")
            if kind is not None and run is not None and await self._is_wanted(kind, run):
                reason = event.state.note.text if event.state and kind == LOST else ""
                found.append(about(kind, describe(self._api, run), reason))
        return found

    async def _is_wanted(self, kind: str, run: Run) -> bool:
        if not self._order.wanted.fits(kind, describe(self._api, run)):
            return False
        least = self._order.min_iterations
        if not least or kind == LOST:
            return True
        last = await results.last(self._api, run.id)
        return max((each.iteration for each in last), default=0) >= least

    async def _look_around(self, now: datetime) -> list[Alert]:
        order, pool = self._order, settings().pool
        watched = order.wait_minutes is not None
        found = standing(
            now,
            await records.overview(self._api, pool) if watched else (),
            await agents.find(self._api, pool),
            idle_before=self._idle,
            wait_minutes=order.wait_minutes,
            agent_down=order.agent_down,
            idle_minutes=order.idle_minutes,
        )
        news = found.news(self._matters)
        self._matters, self._idle = sorted(found.alerts), found.idle
        return news

    async def _compose(self, id: str, alerts: Sequence[Alert]) -> Message:
        consoles: dict[str, list[str]] = {}
        if len(alerts) <= TOGETHER and self._order.console_lines:
            for alert in alerts:
                if alert.run is not None:
                    consoles[alert.run] = await self._console(alert.run)
        return blockkit.message(id, alerts, consoles, self._order.prefix)

    async def _console(self, run_id: str) -> list[str]:
        with contextlib.suppress(ClearflowError):
            for run in await finding.by_runs(self._api, [run_id]):
                last = self._order.console_lines
                return [line.message async for line in logs.read(self._api, run, last)]
        return []


async def forget(api: Api, name: str) -> None:
    """Forget what a watch of this name remembers: the next one begins with that moment."""
    await Keepsake(api, KIND, name).forget()
