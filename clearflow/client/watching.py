"""Waiting for something large, with a bar on the terminal that shows how far it is."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from typing import Any

from clearflow.client import door
from clearflow.errors import ClearflowError

_EVERY, _FIRST = 0.5, 1.0  # seconds
_WIDTH = 30


def watched(what: str, verb: str, *, show: bool = True, **arguments: Any) -> Any:
    """The answer to a question that takes its time. `what` is what is done with the bytes."""
    if not show or not sys.stderr.isatty():
        return door.ask(verb, **arguments)
    name, over = uuid.uuid4().hex, threading.Event()
    bar = threading.Thread(target=_draw, args=(what, name, over), daemon=True)
    bar.start()
    try:
        return door.ask(verb, watch=name, **arguments)
    finally:
        over.set()
        bar.join(2)


def _draw(what: str, name: str, over: threading.Event) -> None:
    begun, drawn = time.monotonic(), False
    if over.wait(_FIRST):
        return
    while not over.wait(_EVERY):
        try:
            seen = door.ask("dataset.progress", watch=name)
        except (ClearflowError, OSError, TimeoutError):
            continue
        if seen and seen[1]:
            done, total = seen
            shown = line(what, done, total, time.monotonic() - begun)
            print(f"\r{shown}", end="", file=sys.stderr)
            drawn = True
    if drawn:
        print("\r\x1b[K", end="", file=sys.stderr)


class Bar:
    """A bar for what this program moves itself; on a terminal, and once it takes its time."""

    def __init__(self, what: str) -> None:
        self._what, self._begun = what, time.monotonic()
        self._drawn = 0.0

    def show(self, done: int, total: int) -> None:
        now = time.monotonic()
        slow = now - self._begun > _FIRST and now - self._drawn > _EVERY
        if slow and sys.stderr.isatty():
            shown = line(self._what, done, total, now - self._begun)
            print(f"\r{shown}", end="", file=sys.stderr)
            self._drawn = now

    def close(self) -> None:
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr)


def line(what: str, done: int, total: int, seconds: float) -> str:
    """Such as `[#####.....] 1.2 of 2.0 GB sent, 310 MB/s`."""
    filled = int(_WIDTH * min(done / max(total, 1), 1))
    size, unit = (1e9, "GB") if total >= 1e9 else (1e6, "MB")
    rate = done / 1e6 / max(seconds, 0.001)
    bar = "#" * filled + "." * (_WIDTH - filled)
    return f"[{bar}] {done / size:.1f} of {total / size:.1f} {unit} {what}, {rate:.0f} MB/s "
