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


def duration(seconds: float) -> str:
    """A length of time in its largest sensible unit."""
    seconds = max(0.0, seconds)
    for limit, unit, size in ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


class ServerClock:
    """The server's time, estimated from the times that it puts into its answers and events.

    Each is a lower bound: the server's time was at least that much when the answer was made. The
    estimate keeps the largest bound seen, and follows slow drift by forgetting it after ten
    minutes. The `Date` header of an answer is up to two seconds old (uvicorn makes it once a
    second, in whole seconds); the time of a state or an event is exact.
    """

    FORGET_AFTER = 600.0

    def __init__(self) -> None:
        self._ahead = timedelta(0)  # the server's time minus the local monotonic-based time
        self._observed_at: float | None = None

    def observe_header(self, date: str | None) -> None:
        """Take in the `Date` header of an answer that has just arrived."""
        if date:
            try:
                self.observe(parsedate_to_datetime(date))
            except ValueError:
                return

    def observe(self, moment: datetime) -> None:
        """Take in a time that the server has just told."""
        ahead = moment - self._local()
        stale = (
            self._observed_at is None or time.monotonic() - self._observed_at > self.FORGET_AFTER
        )
        # A jump by more than a header's age means that a clock was set.
        if stale or ahead > self._ahead or self._ahead - ahead > timedelta(seconds=3):
            self._ahead = ahead
            self._observed_at = time.monotonic()

    def now(self) -> datetime:
        """The server's time; a little late, at most by two seconds plus the way of an answer.

        Before the server has said anything it is this machine's.
        """
        if self._observed_at is None:
            return now()
        return self._local() + self._ahead

    def likely(self) -> datetime:
        """The server's time as likely as can be, for what is put in order and not compared.

        It is this machine's own time as long as nothing that the server has said speaks against it.
        """
        own, estimate = now(), self.now()
        return own if estimate <= own <= estimate + timedelta(seconds=2) else estimate

    @staticmethod
    def _local() -> datetime:
        # Monotonic, so that somebody who sets this machine's clock does not move the estimate.
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=time.monotonic())
