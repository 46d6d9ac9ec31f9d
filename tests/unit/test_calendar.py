"""When schedules fire: ClearML's words, and the changes of the clock, as Prefect works them out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from clearflow._prefect import private
from clearflow.errors import Usage
from clearflow.words.calendar import Moment, once

HOUR = timedelta(hours=1)
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Africa/Casablanca",
)


def fires(moment: Moment, start: datetime, end: datetime) -> list[datetime]:
    return private.fires(moment.when().schedule, start, end, 1000)


def some(zone: str = "UTC", count: int = 3, start: str = "2026-01-01", **words: Any) -> list[str]:
    place = ZoneInfo(zone)
    begin = datetime.fromisoformat(start).replace(tzinfo=place)
    when = Moment(zone=zone, **words).when()
    found = private.fires(when.schedule, begin, None, count)
    return [f"{at.astimezone(place):%a %Y-%m-%d %H:%M}" for at in found]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"minute": 15}, ["Thu 2026-01-01 00:00", "Thu 2026-01-01 00:15", "Thu 2026-01-01 00:30"]),
        ({"minute": 90}, ["Thu 2026-01-01 00:00", "Thu 2026-01-01 01:30", "Thu 2026-01-01 03:00"]),
        (
            {"hour": 1, "minute": 30},
            ["Thu 2026-01-01 00:30", "Thu 2026-01-01 01:30", "Thu 2026-01-01 02:30"],
        ),
        ({"hour": 6}, ["Thu 2026-01-01 00:00", "Thu 2026-01-01 06:00", "Thu 2026-01-01 12:00"]),
        (
            {"day": 1, "hour": 22, "minute": 30},
            ["Thu 2026-01-01 22:30", "Fri 2026-01-02 22:30", "Sat 2026-01-03 22:30"],
        ),
        (
            {"day": 2, "hour": 7, "minute": 30},
            ["Thu 2026-01-01 07:30", "Sat 2026-01-03 07:30", "Mon 2026-01-05 07:30"],
        ),
        (
            {"day": 0, "hour": 8, "minute": 30, "weekdays": ["saturday"]},
            ["Sat 2026-01-03 08:30", "Sat 2026-01-10 08:30", "Sat 2026-01-17 08:30"],
        ),
        (
            {"day": 1, "hour": 8, "weekdays": ["Fri", "sunday"]},
            ["Fri 2026-01-02 08:00", "Sun 2026-01-04 08:00", "Fri 2026-01-09 08:00"],
        ),
        (
            {"hour": 12, "weekdays": ["saturday", "sunday"]},
            ["Sat 2026-01-03 00:00", "Sat 2026-01-03 12:00", "Sun 2026-01-04 00:00"],
        ),
        ({"weekdays": ["mon"]}, ["Mon 2026-01-05 00:00", "Mon 2026-01-12 00:00"]),
        ({"month": 1, "day": 5}, ["Mon 2026-01-05 00:00", "Thu 2026-02-05 00:00"]),
        ({"month": 1, "day": 31}, ["Sat 2026-01-31 00:00", "Sat 2026-02-28 00:00"]),
        ({"month": 3, "hour": 9}, ["Thu 2026-01-01 09:00", "Wed 2026-04-01 09:00"]),
        ({"year": 1, "month": 3, "day": 4}, ["Wed 2026-03-04 00:00", "Thu 2027-03-04 00:00"]),
        ({"year": 2026, "month": 6, "day": 2, "hour": 9, "minute": 5}, ["Tue 2026-06-02 09:05"]),
        ({"cron": "30 8 * * 5"}, ["Fri 2026-01-02 08:30", "Fri 2026-01-09 08:30"]),
    ],
    ids=lambda value: str(value)[:50],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_clearmls_words_mean_what_they_say(
    words: dict[str, Any], expected: list[str], zone: str
) -> None:
    assert some(zone, len(expected), **words) == expected


def test_once_is_once() -> None:
    assert len(some(count=5, year=2030)) == 1
    assert some(count=5, start="2031-01-01", year=2030) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "says nothing of the time"),
        ({"minute": 0}, "minute=0 alone"),
        ({"hour": 0}, "hour=0 alone"),
        ({"day": 0}, "day=0 without weekdays"),
        ({"hour": 24, "day": 1}, "from 0 to 23"),
        ({"hour": 1, "minute": 60}, "from 0 to 59"),
        ({"day": 32}, "from 0 to 31"),
        ({"month": 13}, "from 0 to 12"),
        ({"month": 0}, "month=0"),
        ({"year": 2026, "month": 2, "day": 30}, "there is no 2026-02-30"),
        ({"day": 2, "weekdays": ["monday"]}, "day=1 goes with weekdays"),
        ({"month": 1, "weekdays": ["monday"]}, "weekdays do not go with month"),
        ({"weekdays": ["someday"]}, "'someday' is no weekday"),
        ({"weekdays": ["t"]}, "'t' is no weekday"),
        ({"cron": "0 8 * * *", "hour": 1}, "not both"),
        ({"cron": "0 8 * * *", "zone": "Mars/Olympus"}, "there is no time zone 'Mars/Olympus'"),
        ({"hour": "8"}, "a whole number"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_makes_no_sense_is_said_in_a_line(words: dict[str, Any], said: str) -> None:
    with pytest.raises(Usage, match=said) as raised:
        Moment(**words).when()
    assert "\n" not in raised.value.message


# -- the changes of the clock -----------------------------------------------------------------


def changes(zone: str) -> Iterator[tuple[datetime, timedelta]]:
    """When the clocks of a zone are changed, and by how much, in two years."""
    place, at = ZoneInfo(zone), datetime(2025, 1, 1, tzinfo=UTC)
    last = at.astimezone(place).utcoffset()
    while at < datetime(2027, 1, 1, tzinfo=UTC):
        at += timedelta(minutes=30)
        now = at.astimezone(place).utcoffset()
        assert now is not None
        assert last is not None
        if now != last:
            yield at, now - last
        last = now


CHANGES = [(zone, at, by) for zone in ZONES for at, by in changes(zone)]


def in_the_middle(zone: str, at: datetime, by: timedelta) -> datetime:
    """A time of the clock that is skipped that day, or there twice."""
    local = at.astimezone(ZoneInfo(zone))
    return local - by / 2 if by > timedelta(0) else (at - by / 2).astimezone(ZoneInfo(zone))


def test_there_are_such_changes() -> None:
    assert len(CHANGES) >= 4 * len(ZONES)
    assert {by > timedelta(0) for _, _, by in CHANGES} == {True, False}


@pytest.mark.parametrize(("zone", "at", "by"), CHANGES, ids=str)
def test_every_day_is_once_a_day_also_when_that_time_is_skipped_or_there_twice(
    zone: str, at: datetime, by: timedelta
) -> None:
    place, wall = ZoneInfo(zone), in_the_middle(zone, at, by)
    daily = Moment(day=1, hour=wall.hour, minute=wall.minute, zone=zone)
    midnight = wall.replace(hour=0, minute=0, fold=0)
    begin, end = midnight - timedelta(days=3), midnight + timedelta(days=4, seconds=-1)
    found = fires(daily, begin.astimezone(UTC), end.astimezone(UTC))
    days = [each.astimezone(place).date() for each in found]
    assert len(days) == len(set(days)) == 7
    others = [e.astimezone(place) for e in found if abs(e - at) > 12 * HOUR]
    assert {(e.hour, e.minute) for e in others} == {(wall.hour, wall.minute)}


@pytest.mark.parametrize(("zone", "at", "by"), CHANGES, ids=str)
def test_intervals_go_on_evenly(zone: str, at: datetime, by: timedelta) -> None:
    for moment, every in (
        (Moment(zone=zone, hour=1, minute=30), HOUR),
        (Moment(zone=zone, minute=15), HOUR / 4),
    ):
        found = fires(moment, at - 6 * HOUR, at + 6 * HOUR)
        assert {b - a for a, b in pairwise(found)} == {every}


@pytest.mark.parametrize(("zone", "at", "by"), CHANGES, ids=str)
def test_minutes_of_every_hour_leave_no_hour_out(zone: str, at: datetime, by: timedelta) -> None:
    """In the zone's own time Prefect leaves out the hour that is there twice."""
    found = fires(Moment(cron="*/15 * * * *", zone=zone), at - 6 * HOUR, at + 6 * HOUR)
    longest = max(b - a for a, b in pairwise(found))
    assert longest <= (HOUR / 4 if zone != "Australia/Lord_Howe" else HOUR * 3 / 4)


@pytest.mark.parametrize(("zone", "at", "by"), CHANGES, ids=str)
def test_when_it_fires_does_not_depend_on_when_one_looks(
    zone: str, at: datetime, by: timedelta
) -> None:
    """Else a fire that two looked at would have two moments, and be launched twice."""
    wall = in_the_middle(zone, at, by)
    for moment in (
        Moment(day=1, hour=wall.hour, minute=wall.minute, zone=zone),
        Moment(day=2, hour=wall.hour, minute=wall.minute, zone=zone),
        Moment(cron="30 */2 * * *", zone=zone),
    ):
        whole = set(fires(moment, at - timedelta(days=4), at + timedelta(days=2)))
        for minutes in range(-240, 240, 17):
            begin = at + timedelta(minutes=minutes)
            found = set(fires(moment, begin, at + timedelta(days=2)))
            # It may tell once more of one that has just been: of the same moment, thus not again.
            assert {each for each in whole if each >= begin} <= found <= whole


def test_once_in_an_hour_that_is_there_twice_is_the_moment_that_was_meant() -> None:
    place = ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        meant = datetime(2026, 10, 25, 2, 30, tzinfo=place, fold=fold)
        when = once(meant, "Europe/Berlin")
        found = private.fires(when.schedule, datetime(2026, 1, 1, tzinfo=UTC), None, 3)
        assert found == [meant.astimezone(UTC)]
