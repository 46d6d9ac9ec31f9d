"""Which fires of a schedule are to be launched now. Pure.

A firing is a hint to look: what is launched follows from what was due since the last one that was
dealt with. So no fire is lost whose run was, and none is doubled that two looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from clearflow import clock
from clearflow.errors import Usage

NAME, PROJECT, QUEUE = "scheduler", "Schedules", "services"
"""What a scheduler is called, and where it is and runs, when nobody says so."""

ALL, ONCE, SKIP = "all", "once", "skip"
MISSED = (ALL, ONCE, SKIP)
"""What becomes of fires that nobody dealt with when they were due: each, the last one, none."""

GRACE = timedelta(minutes=5)
"""What is dealt with so soon after it was due was not missed."""
MOST = 100
"""How many missed fires of one schedule are made up for: the latest."""


@dataclass(frozen=True)
class Cursor:
    """How far a schedule has come: the last fire that was dealt with, and what it launched.

    `number` counts what was launched; `task` is the last of it.
    """

    at: datetime
    number: int = 0
    task: str | None = None

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"at": self.at.isoformat(), "number": self.number, "task": self.task}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Cursor:
        return cls(clock.parse(data["at"]), int(data["number"]), data.get("task"))


@dataclass(frozen=True)
class Plan:
    """What to launch, the oldest first, and how many fires are passed over."""

    launch: Sequence[datetime]
    passed: int = 0


def plan(due: Sequence[datetime], now: datetime, missed: str) -> Plan:
    """What to do about fires that are due, by the policy for those that were missed."""
    found = sorted(set(due))
    if missed == ONCE:
        chosen = found[-1:]
    elif missed == SKIP:
        chosen = [each for each in found if now - each <= GRACE]
    else:
        chosen = found[-MOST:]
    return Plan(chosen, len(found) - len(chosen))


def check_policy(missed: str) -> None:
    """Raises Usage for a policy that there is not."""
    if missed not in MISSED:
        raise Usage(f"missed={missed!r}: all of them, once, or skip", hint=", ".join(MISSED))


def key(schedule: str, at: datetime) -> str:
    """The unique key of what a schedule launches for one fire time."""
    return f"{schedule} {at.isoformat()}"


KNOWN: Mapping[str, Sequence[str]] = {
    "schedule": ("date", "time", "utc", "timestamp", "number", "name", "scheduler", "project"),
    "previous": ("id", "status", "url", "number", "parameters.", "values.", "artifacts."),
}
"""What templates of a schedule may refer to."""


def context(
    *, name: str, scheduler: str, project: str, at: datetime, local: datetime, number: int
) -> dict[str, Any]:
    """What `${schedule.…}` stands for; `local` is the fire time in the schedule's zone."""
    return {
        "date": local.date(),
        "time": local,
        "utc": at,
        "timestamp": int(at.timestamp()),
        "number": number,
        "name": name,
        "scheduler": scheduler,
        "project": project,
    }
