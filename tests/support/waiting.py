"""Waiting for a condition: the only place in the tests that sleeps."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")

POLL_SECONDS, SLOWEST = 0.03, 0.5
"""Between two looks at first, and in a long wait."""


class WaitedTooLong(AssertionError):
    """What a test waited for did not come about in time."""


def _complaint(what: str, timeout: float, last: object) -> str:
    return f"waited {timeout:g} s for {what}; the last look gave {last!r}"


def _pause(every: float, waited: float, look: float) -> float:
    """Until the next look: short at first, and never so that the looks are most of the work.

    What is waited for runs on the same cores, and mostly on the same server.
    """
    return max(every, min(SLOWEST, max(waited / 12, 4 * look)))


def wait_until(condition: Callable[[], T], timeout: float = 30, what: str = "the condition") -> T:
    """Poll `condition` until it gives something true, and return that.

    An exception out of `condition` ends the wait at once: a look that may fail says so itself.
    """
    begun = time.monotonic()
    while True:
        looked = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now >= begun + timeout:
            raise WaitedTooLong(_complaint(what, timeout, value))
        time.sleep(_pause(POLL_SECONDS, now - begun, now - looked))


async def wait_until_async(
    condition: Callable[[], Awaitable[T]],
    timeout: float = 30,
    what: str = "the condition",
    *,
    every: float = POLL_SECONDS,
) -> T:
    """`wait_until` for a coroutine function; `every` is longer where looking is work."""
    begun = time.monotonic()
    while True:
        looked = time.monotonic()
        value = await condition()
        if value:
            return value
        now = time.monotonic()
        if now >= begun + timeout:
            raise WaitedTooLong(_complaint(what, timeout, value))
        await anyio.sleep(_pause(every, now - begun, now - looked))
