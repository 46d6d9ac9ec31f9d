"""Which of the things that happened are new. Pure.

The server stores an event some time after it occurred, and not in order. So one looks again at the
last minute before the newest that was dealt with, and leaves out those that were dealt with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from clearflow import clock
from clearflow._prefect.events import Event

OVERLAP = timedelta(seconds=60)


@dataclass
class Cursor:
    """How far somebody has come: the newest moment, and what was dealt with shortly before it."""

    at: datetime
    done: dict[str, datetime] = field(default_factory=dict)

    @property
    def since(self) -> datetime:
        """From when on one has to look."""
        return self.at - OVERLAP

    def fresh(self, events: Iterable[Event]) -> list[Event]:
        """Those that were not dealt with, each once, the oldest first."""
        found = {
            e.id: e
            for e in events
            if e.id not in self.done and (e.occurred or self.at) > self.since
        }
        return sorted(found.values(), key=lambda e: e.occurred or self.at)

    def deal_with(self, events: Iterable[Event]) -> None:
        """These are dealt with."""
        for event in events:
            occurred = event.occurred or self.at
            self.done[event.id] = occurred
            self.at = max(self.at, occurred)
        self.done = {id: at for id, at in self.done.items() if at > self.since}

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "at": self.at.isoformat(),
            "done": {id: at.isoformat() for id, at in self.done.items()},
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Cursor:
        return cls(
            clock.parse(data["at"]),
            {id: clock.parse(at) for id, at in data["done"].items()},
        )
