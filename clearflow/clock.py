"""Time: this machine's clock, and the server's clock as seen from here.

Everything that is compared between machines is in the server's time, so a machine whose clock is
wrong by minutes neither hides its tasks nor declares others lost.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


def now() -> datetime:
    """This machine's time, in UTC."""
    return datetime.now(UTC)


def parse(text: str) -> datetime:
    """A timestamp of the server's JSON as an aware UTC datetime."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class ServerClock:
    """The server's time, estimated from the `Date` header of its answers.

    `Date` is cut to whole seconds, so the true time lies within a second after it. The estimate
    keeps the largest lower bound seen, which closes in on the true time, and follows slow drift
    by forgetting a bound after ten minutes.
    """

    FORGET_AFTER = 600.0

    def __init__(self) -> None:
        self._ahead = timedelta(0)  # the server's time minus the local monotonic-based time
        self._observed_at: float | None = None

    def observe(self, date_header: str | None) -> None:
        """Take in the `Date` header of an answer that has just arrived."""
        if not date_header:
            return
        try:
            ahead = parsedate_to_datetime(date_header) - self._local()
        except ValueError:
            return
        stale = (
            self._observed_at is None or time.monotonic() - self._observed_at > self.FORGET_AFTER
        )
        # A jump by more than the header's resolution means that a clock was set.
        if stale or ahead > self._ahead or self._ahead - ahead > timedelta(seconds=2):
            self._ahead = ahead
            self._observed_at = time.monotonic()

    def now(self) -> datetime:
        """The server's time; late by at most a second plus the way of an answer."""
        return self._local() + self._ahead

    @staticmethod
    def _local() -> datetime:
        # Monotonic, so that somebody who sets this machine's clock does not move the estimate.
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=time.monotonic())
