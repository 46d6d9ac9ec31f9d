"""What a program reports: gathered here, and sent a few times a second by a thread of its own.

A report is an append to a list and nothing else, so that a training pays next to nothing for it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections import deque
from typing import Any

from clearflow.client import door
from clearflow.errors import ClearflowError, Unreachable

_EVERY = 0.3  # seconds
_POINTS, _BYTES = 20_000, 8_000_000  # of one message


class Outbox:
    """What was reported to one task and is not sent yet; `own` is the task of this program."""

    def __init__(self, task: str, own: bool) -> None:
        self._task, self.own = task, own
        self._points: deque[tuple[str, str, int, float]] = deque()
        self._items: deque[dict[str, Any]] = deque()
        self._unsent: dict[str, Any] | None = None
        self._sending = threading.Lock()

    def point(self, title: str, series: str, iteration: int, value: float) -> None:
        self._points.append((title, series, iteration, value))
        if not _news.is_set():
            _wake()

    def item(self, **item: Any) -> None:
        self._items.append(item)
        if not _news.is_set():
            _wake()

    def send(self) -> None:
        """Send what has come so far. Raises ClearflowError; what is to be tried again is kept."""
        with self._sending:
            while self._unsent or self._points or self._items:
                message, self._unsent = self._unsent or self._message(), None
                try:
                    self._deliver(message)
                except Unreachable:
                    self._unsent = message
                    raise

    def _deliver(self, message: dict[str, Any]) -> None:
        there = door.door()
        if self.own and isinstance(there, door.Line):
            there.tell("report", **message)
        else:
            there.ask("report", task=self._task, **message)

    def _message(self) -> dict[str, Any]:
        columns: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
        for _ in range(min(len(self._points), _POINTS)):
            title, series, iteration, value = self._points.popleft()
            column = columns.get((title, series))
            if column is None:
                column = columns[title, series] = ([], [])
            column[0].append(iteration)
            column[1].append(value)
        items, size = [], 0
        while self._items and size < _BYTES:
            items.append(self._items.popleft())
            size += sum(len(v) for v in items[-1].values() if isinstance(v, str))
        return {"scalars": [(*key, *column) for key, column in columns.items()], "items": items}

    def forget(self) -> None:
        """In a forked child: what waits here is the parent's."""
        self._points.clear()
        self._items.clear()
        self._unsent, self._sending = None, threading.Lock()


_boxes: dict[str, Outbox] = {}
_news = threading.Event()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def outbox(task: str, own: bool) -> Outbox:
    """The one of a task."""
    with _lock:
        if task not in _boxes:
            _boxes[task] = Outbox(task, own)
        return _boxes[task]


def close() -> None:
    """Send everything: the program's task ends here, and its supervisor hears no more of it."""
    flush()
    for box in _boxes.values():
        box.own = False


def flush() -> bool:
    """Send everything now; whether that was possible. What was not is said."""
    sent = True
    for box in list(_boxes.values()):
        try:
            box.send()
        except (ClearflowError, OSError) as error:
            sent = False
            print(f"clearflow: results could not be sent: {error}", file=sys.stderr)
    return sent


def _wake() -> None:
    global _thread
    with _lock:
        if _thread is None:
            _thread = threading.Thread(target=_keep_sending, daemon=True, name="clearflow-results")
            _thread.start()
            _at_exit()
        _news.set()


def _at_exit() -> None:
    atexit.register(flush)
    # Children of multiprocessing leave without the interpreter's exit functions.
    if util := sys.modules.get("multiprocessing.util"):
        util.Finalize(None, flush, exitpriority=100)


def _keep_sending() -> None:
    while True:
        _news.wait()
        time.sleep(_EVERY)
        _news.clear()
        for box in list(_boxes.values()):
            try:
                box.send()
            except Unreachable:
                _news.set()
            except (ClearflowError, OSError) as error:
                with contextlib.suppress(OSError, ValueError):
                    print(f"clearflow: results could not be sent: {error}", file=sys.stderr)


def _forget() -> None:
    global _lock, _news, _thread
    _lock, _news, _thread = threading.Lock(), threading.Event(), None
    for box in _boxes.values():
        box.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
