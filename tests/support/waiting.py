"""Waiting for a condition: the only place in the tests that sleeps."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")

POLL_SECONDS = 0.03


class WaitedTooLong(AssertionError):
    """What a test waited for did not come about in time."""


def _complaint(what: str, timeout: float, last: object) -> str:
    return f"waited {timeout:g} s for {what}; the last look gave {last!r}"


def wait_until(condition: Callable[[], T], timeout: float = 30, what: str = "the condition") -> T:
    """Poll `condition` until it gives something true, and return that.

    An exception out of `condition` ends the wait at once: a look that may fail says so itself.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise WaitedTooLong(_complaint(what, timeout, value))
        time.sleep(POLL_SECONDS)


async def wait_until_async(
    condition: Callable[[], Awaitable[T]],
    timeout: float = 30,
    what: str = "the condition",
    *,
    every: float = POLL_SECONDS,
) -> T:
    """`wait_until` for a coroutine function; `every` is longer where looking is work."""
    deadline = time.monotonic() + timeout
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise WaitedTooLong(_complaint(what, timeout, value))
        await anyio.sleep(every)
