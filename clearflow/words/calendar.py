"""When a schedule fires: cron, or ClearML's words for it, as Prefect's schedules. Pure.

ClearML's words: one alone is an interval; of several the longest is the period, and the shorter
ones say at which moment.

    minute=15                                    every 15 minutes
    hour=1, minute=30                            every hour, at half past
    day=1, hour=22, minute=30                    every day at 22:30
    day=2, hour=7, minute=30                     every other day at 7:30
    day=0, hour=8, minute=30, weekdays=["saturday"]     every Saturday at 8:30
    hour=2, weekdays=["saturday", "sunday"]      every 2 hours at the weekend
    month=1, day=5                               every month, on the 5th
    year=1, month=3, day=4                       every year, on March 4th
    year=2030, month=1, day=1, hour=9            once

Intervals are counted from a fixed moment and not from the last run: they do not drift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from clearflow.errors import Usage

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_START = datetime(2020, 1, 1)  # a Wednesday; from here intervals are counted
_ONCE = 2000  # a year from here on is one, below it is a number of years
_LIMITS = {"minute": 1439, "hour": 23, "day": 31, "month": 12, "year": 9999}
_HINT = "such as day=1, hour=8, minute=30 or cron='30 8 * * *'"


@dataclass(frozen=True, slots=True)
class When:
    """Prefect's schedule as its API takes it, the zone it is meant in, and words for people."""

    schedule: Mapping[str, Any]
    zone: str
    words: str


@dataclass(frozen=True)
class Moment:
    """What a person says. `zone` is a name such as Europe/Berlin."""

    cron: str | None = None
    minute: int | None = None
    hour: int | None = None
    day: int | None = None
    weekdays: Sequence[str] = ()
    month: int | None = None
    year: int | None = None
    zone: str = "UTC"
    given: Mapping[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        said = {name: getattr(self, name) for name in _LIMITS}
        object.__setattr__(self, "given", {k: v for k, v in said.items() if v is not None})

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return self.cron is None and not self.given and not self.weekdays

    def when(self) -> When:
        """Raises Usage, in one line, for what makes no sense."""
        zone(self.zone)
        if self.cron is not None:
            if self.given or self.weekdays:
                raise Usage("say it by cron or by minute, hour, day…: not both")
            return _cron(self.cron, self.zone, f"cron {self.cron}")
        if self.empty:
            raise Usage("when? it says nothing of the time", hint=_HINT)
        for name, value in self.given.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise Usage(f"{name} is a whole number, not {value!r}")
            if not 0 <= value <= _LIMITS[name]:
                raise Usage(f"{name}={value}: from 0 to {_LIMITS[name]}")
        return self._when(_weekdays(self.weekdays))

    def _when(self, days: list[int]) -> When:
        if self.year is not None:
            return self._of_years(days)
        if self.month is not None:
            return self._of_months(days)
        if self.day is not None:
            return self._of_days(days)
        if self.hour is not None:
            return self._of_hours(days)
        if self.minute is not None:
            return self._of_minutes(days)
        return self._at(days)

    # -- each period --------------------------------------------------------------------------

    @property
    def _clock(self) -> tuple[int, int]:
        hour, minute = self.hour or 0, self.minute or 0
        if minute > 59:
            raise Usage(f"minute={minute} of an hour: from 0 to 59")
        return hour, minute

    def _of_years(self, days: list[int]) -> When:
        assert self.year is not None
        _without(days, "year")
        if self.year == 0:
            raise Usage("year=0: 1 is every year, 2030 that year")
        hour, minute = self._clock
        month, day = self.month or 1, self.day or 1
        at = f"{hour:02}:{minute:02}"
        if self.year >= _ONCE:
            try:
                once_at = datetime(self.year, month, day, hour, minute)
            except ValueError:
                raise Usage(f"there is no {self.year}-{month:02}-{day:02}") from None
            return once(once_at.replace(tzinfo=ZoneInfo(self.zone)), self.zone)
        every = "every year" if self.year == 1 else f"every {self.year} years"
        return self._rule(
            f"FREQ=YEARLY;INTERVAL={self.year};BYMONTH={month};{_on(day)}",
            f"{every} on {month:02}-{day:02} at {at}",
        )

    def _of_months(self, days: list[int]) -> When:
        _without(days, "month")
        if not self.month:
            raise Usage("month=0: 1 is every month")
        hour, minute = self._clock
        day = self.day or 1
        every = "every month" if self.month == 1 else f"every {self.month} months"
        return self._rule(
            f"FREQ=MONTHLY;INTERVAL={self.month};{_on(day)}",
            f"{every} on day {day} at {hour:02}:{minute:02}",
        )

    def _of_days(self, days: list[int]) -> When:
        assert self.day is not None
        if days:
            if self.day > 1:
                raise Usage("every some days, and on weekdays: day=1 goes with weekdays")
            return self._at(days)
        if self.day == 0:
            raise Usage("day=0 without weekdays: 1 is every day", hint=_HINT)
        hour, minute = self._clock
        at = f"{hour:02}:{minute:02}"
        if self.day == 1:
            return _cron(f"{minute} {hour} * * *", self.zone, f"every day at {at}")
        return self._rule(f"FREQ=DAILY;INTERVAL={self.day}", f"every {self.day} days at {at}")

    def _at(self, days: list[int]) -> When:
        hour, minute = self._clock
        named = ", ".join(DAYS[d].title() for d in days)
        fields = ",".join(str((d + 1) % 7) for d in days)
        return _cron(
            f"{minute} {hour} * * {fields}", self.zone, f"on {named} at {hour:02}:{minute:02}"
        )

    def _of_hours(self, days: list[int]) -> When:
        if not self.hour:
            raise Usage("hour=0 alone: 1 is every hour; day=1, hour=0 is midnight", hint=_HINT)
        _, minute = self._clock
        every = "every hour" if self.hour == 1 else f"every {self.hour} hours"
        words = f"{every} at minute {minute}"
        if days:
            return self._within(days, f"{minute} */{self.hour} * *", words)
        return self._interval(timedelta(hours=self.hour), timedelta(minutes=minute), words)

    def _of_minutes(self, days: list[int]) -> When:
        if not self.minute:
            raise Usage("minute=0 alone: 1 is every minute; hour=1, minute=0 is every full hour")
        words = f"every {self.minute} minutes" if self.minute > 1 else "every minute"
        if days:
            if self.minute > 59:
                raise Usage("with weekdays minute is below 60: say hour for more")
            return self._within(days, f"*/{self.minute} * * *", words)
        return self._interval(timedelta(minutes=self.minute), timedelta(0), words)

    # -- as Prefect has it --------------------------------------------------------------------

    def _within(self, days: list[int], cron: str, words: str) -> When:
        named = ", ".join(DAYS[d].title() for d in days)
        fields = ",".join(str((d + 1) % 7) for d in days)
        return _cron(f"{cron} {fields}", self.zone, f"{words}, on {named}")

    def _interval(self, every: timedelta, after: timedelta, words: str) -> When:
        anchor = (_START + after).replace(tzinfo=ZoneInfo(self.zone)).astimezone(UTC)
        # Hours that go by are the same everywhere; in UTC none is skipped or doubled.
        schedule = {
            "interval": every.total_seconds(),
            "anchor_date": anchor.isoformat(),
            "timezone": "UTC",
        }
        return When(schedule, self.zone, words)

    def _rule(self, rule: str, words: str) -> When:
        hour, minute = self._clock
        start = _START.replace(hour=hour, minute=minute)
        text = f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:{rule}"
        return When({"rrule": text, "timezone": self.zone}, self.zone, words)


def once(moment: datetime, zone: str) -> When:
    """At one moment, and never again."""
    local = moment.astimezone(ZoneInfo(zone))
    # In UTC, as the hour that a change of the clock doubles has two moments.
    utc = moment.astimezone(UTC)
    text = f"DTSTART:{utc:%Y%m%dT%H%M%S}\nRRULE:FREQ=DAILY;COUNT=1"
    return When({"rrule": text, "timezone": "UTC"}, zone, f"once, on {local:%Y-%m-%d at %H:%M}")


def zone(name: str) -> ZoneInfo:
    """A time zone by its name. Raises Usage."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise Usage(
            f"there is no time zone {name!r}", hint="such as Europe/Berlin or America/New_York"
        ) from None


def _cron(text: str, zone: str, words: str) -> When:
    fields = text.split()
    if len(fields) == 5 and fields[1:] == ["*"] * 4 and _by_full_hours(zone):
        # Every so many minutes of each hour: in the zone's own time Prefect leaves out the hour
        # that is there twice.
        return When({"cron": text, "timezone": "UTC"}, zone, words)
    return When({"cron": text, "timezone": zone}, zone, words)


def _by_full_hours(name: str) -> bool:
    """Whether a zone is full hours away from UTC, in summer and in winter."""
    place = ZoneInfo(name)
    offsets = [datetime(2026, m, 1, tzinfo=place).utcoffset() for m in range(1, 13)]
    return all(o is not None and o.total_seconds() % 3600 == 0 for o in offsets)


def _on(day: int) -> str:
    """A day of the month; in one that is shorter its last day."""
    if day <= 28:
        return f"BYMONTHDAY={day}"
    days = ",".join(str(d) for d in range(28, day + 1))
    return f"BYMONTHDAY={days};BYSETPOS=-1"


def _weekdays(said: Sequence[str]) -> list[int]:
    if isinstance(said, str):
        said = [said]
    found = set()
    for word in said:
        name = str(word).lower()
        near = [i for i, day in enumerate(DAYS) if len(name) > 1 and day.startswith(name)]
        if len(near) != 1:
            raise Usage(f"{word!r} is no weekday", hint=", ".join(DAYS))
        found.add(near[0])
    return sorted(found)


def _without(days: list[int], word: str) -> None:
    if days:
        raise Usage(f"weekdays do not go with {word}", hint="use cron, or day=1 with weekdays")
