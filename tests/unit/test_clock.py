"""The server's time as seen from a machine whose own clock may be anything."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from clearflow.clock import ServerClock, parse


def test_an_exact_time_of_the_server_is_better_than_a_header() -> None:
    clock = ServerClock()
    server = datetime(2030, 5, 5, 12, 0, 0, 900_000, tzinfo=UTC)  # nothing like this machine's
    clock.observe_header(format_datetime(server.replace(microsecond=0), usegmt=True))
    assert abs(clock.now() - server) < timedelta(seconds=1)
    clock.observe(server)
    assert abs(clock.now() - server) < timedelta(milliseconds=100)
    # An older header does not make it worse.
    clock.observe_header(format_datetime(server.replace(microsecond=0), usegmt=True))
    assert abs(clock.now() - server) < timedelta(milliseconds=100)


def test_a_server_whose_clock_is_set_back_is_followed() -> None:
    clock = ServerClock()
    server = datetime(2030, 5, 5, 12, tzinfo=UTC)
    clock.observe(server)
    clock.observe(server - timedelta(minutes=5))
    assert abs(clock.now() - (server - timedelta(minutes=5))) < timedelta(milliseconds=100)


def test_nonsense_in_a_header_is_nothing() -> None:
    clock = ServerClock()
    before = clock.now()
    clock.observe_header("yesterday, about noon")
    clock.observe_header(None)
    assert clock.now() - before < timedelta(seconds=1)


def test_times_of_the_server_are_in_utc_with_and_without_saying_so() -> None:
    assert (
        parse("2026-01-05T09:30:00Z")
        == parse("2026-01-05T09:30:00")
        == parse("2026-01-05T10:30:00+01:00")
    )
