"""How far something has come that takes its time; whoever waits for it asks by a name it gave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Bytes that are done, of how many."""

    def __init__(self) -> None:
        self.total = self._done = 0
        self._lock = threading.Lock()

    def expect(self, more: int) -> None:
        self.total += more

    def done(self, more: int) -> None:
        with self._lock:
            self._done += more

    @property
    def sofar(self) -> int:
        return self._done


class Rooms(threading.local):
    """Memory of each thread, used again: new memory for each part takes as long as its hash."""

    def __init__(self) -> None:
        self._room = bytearray()

    def of(self, size: int) -> memoryview:
        if len(self._room) < size:
            self._room = bytearray(size)
        return memoryview(self._room)[:size]


_watched: dict[str, Progress] = {}


@contextmanager
def watched(name: str | None) -> Iterator[Progress]:
    """Progress that may be asked for by this name until it is over."""
    progress = Progress()
    if name is not None:
        _watched[name] = progress
    try:
        yield progress
    finally:
        if name is not None:
            _watched.pop(name, None)


def seen(name: str) -> tuple[int, int] | None:
    """How many bytes of how many are done; None of what has not begun or is over."""
    progress = _watched.get(name)
    return None if progress is None else (progress.sofar, progress.total)
