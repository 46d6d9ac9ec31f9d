"""What a longer command says while it works: one line a step, beside the command that does it.

Talk goes to stderr, so that stdout stays free for data.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from clearflow.cli.output import say

_COLUMN = 52
_SAY_AGAIN = 5.0


def step(command: str, what: str) -> None:
    """A step that was done, and what a person would type for it."""
    left = f"$ {command}"
    if is_terminal():
        say(f"\x1b[1m{left:<{_COLUMN}}\x1b[0m \x1b[2m#\x1b[0m {what}")
    else:
        say(f"{left:<{_COLUMN}} # {what}")


@contextlib.contextmanager
def working(text: str) -> Iterator[Callable[[float], None]]:
    """Progress of something that takes seconds; to be told how long it takes already."""
    if not is_terminal():
        told = 0.0

        def tell(seconds: float) -> None:
            nonlocal told
            if seconds - told >= _SAY_AGAIN:
                told = seconds
                say(f"  … {seconds:.0f} s")

        say(text)
        yield tell
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield lambda seconds: status.update(f"{text} {seconds:.0f} s")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, a hang-up or SIGTERM.

    A class of its own: when a plain KeyboardInterrupt comes out of code that was compiled from a
    string (every dataclass is), CPython ends the process by SIGINT, whoever caught it.
    """


@contextlib.contextmanager
def ends_by_signal() -> Iterator[None]:
    """A hang-up or SIGTERM inside the block is like Ctrl-C, so that whatever runs is stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    # A shell that starts a command with `&` has it ignore SIGINT.
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """An impatient second Ctrl-C must not leave half of it running."""
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_terminal() -> bool:
    """Whether a person watches."""
    return sys.stderr.isatty()
