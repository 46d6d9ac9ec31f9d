"""The server's time, as it is known here."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearflow import clock
from clearflow.clock import ServerClock

TRUE = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)


class Time:
    """A machine and a server whose clocks have nothing to do with each other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: 5000.0 + self.passed)
        self.clock = ServerClock()

    @property
    def server(self) -> datetime:
        return TRUE + timedelta(seconds=self.passed)

    def header(self, on_its_way: float = 0.0) -> None:
        """An answer, whose `Date` is made once a second, in whole seconds."""
        date = (self.server - timedelta(seconds=0.5)).replace(microsecond=0)
        self.passed += on_its_way
        self.clock.observe_header(format_datetime(date, usegmt=True))

    @property
    def late(self) -> float:
        return (self.server - self.clock.now()).total_seconds()


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 0.4)), min_size=1, max_size=30))
def test_it_is_never_ahead_and_soon_less_than_two_seconds_late(
    answers: list[tuple[float, float]],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        moments = Time(monkeypatch)
        for wait, on_its_way in answers:
            moments.passed += wait
            moments.header(on_its_way)
            assert 0 <= moments.late < 2


def test_the_time_of_a_state_is_exact(moments: Time) -> None:
    moments.header()
    moments.clock.observe(moments.server)
    assert moments.late == pytest.approx(0, abs=1e-3)
    moments.header()
    assert moments.late == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("minutes", [-5, 5])
def test_setting_the_clock_of_this_machine_moves_nothing(
    moments: Time, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    moments.clock.observe(moments.server)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60 * minutes)
    moments.passed += 1
    moments.header()
    assert 0 <= moments.late < 1


@pytest.mark.parametrize("minutes", [-5, 5])
def test_setting_the_clock_of_the_server_is_followed(moments: Time, minutes: int) -> None:
    moments.clock.observe(moments.server)
    moved = moments.server + timedelta(minutes=minutes)
    moments.clock.observe(moved)
    assert moments.clock.now() == pytest.approx(moved, abs=timedelta(milliseconds=1))


def test_slow_drift_is_followed(moments: Time) -> None:
    moments.clock.observe(moments.server)
    moments.passed += ServerClock.FORGET_AFTER + 1
    behind = moments.server - timedelta(seconds=1)
    moments.clock.observe(behind)
    assert moments.clock.now() == pytest.approx(behind, abs=timedelta(milliseconds=1))


@pytest.mark.parametrize("header", [None, "", "yesterday"])
def test_an_answer_that_tells_no_time(moments: Time, header: str | None) -> None:
    moments.clock.observe(moments.server)
    moments.clock.observe_header(header)
    assert moments.late == pytest.approx(0, abs=1e-3)


def test_a_timestamp_without_a_zone_is_in_utc() -> None:
    assert clock.parse("2026-01-05T09:30:00") == TRUE
    assert clock.parse("2026-01-05T10:30:00+01:00") == TRUE
    assert clock.parse("2026-01-05T09:30:00Z") == TRUE


def test_before_the_first_answer_it_is_this_machines(moments: Time) -> None:
    assert abs(moments.clock.now() - clock.now()) < timedelta(seconds=5)


@pytest.mark.parametrize(("off", "own"), [(0.0, True), (-300.0, False), (300.0, False)])
def test_this_machines_time_is_taken_where_the_server_does_not_speak_against_it(
    moments: Time, monkeypatch: pytest.MonkeyPatch, off: float, own: bool
) -> None:
    moments.passed = 0.9
    monkeypatch.setattr(clock, "now", lambda: moments.server + timedelta(seconds=off))
    moments.header()
    assert moments.late > 0.5
    right = abs((moments.server - moments.clock.likely()).total_seconds())
    assert right < 1e-6 if own else right == pytest.approx(moments.late)
