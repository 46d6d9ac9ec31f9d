"""The one seam between code that waits and code that awaits.

Everything is written once, as coroutines that take an Api. `run` offers them to plain code, in a
notebook's cell and under a running event loop too: they run on a loop of their own in a
background thread, which keeps the connection to the server open from one call to the next.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from clearflow._prefect.connection import Connection, connection
from clearflow._prefect.http import Api

T = TypeVar("T")

# How long a server that does not answer is asked again, in seconds.
PATIENCE = 5.0
# How long an interrupted call may take to put back what it holds.
_CLEANUP = 10.0


def run(ask: Callable[[Api], Awaitable[T]]) -> T:
    """What `ask` returns, asked of the configured server. Ctrl-C cancels it and lets it clean up.

    Raises Unreachable when no server is configured.
    """
    return _portal().run(ask)


class _Portal:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._apis: list[Api] = []
        self._thread = threading.Thread(target=self._main, name="clearflow", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def run(self, ask: Callable[[Api], Awaitable[T]]) -> T:
        if threading.current_thread() is self._thread:
            raise RuntimeError("await the coroutine: this code runs on the loop already")
        where = connection()
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        tasks: list[asyncio.Task[None]] = []

        async def call() -> None:
            try:
                done.set_result(await ask(self._api(where)))
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(lambda: tasks.append(self._loop.create_task(call())))
        try:
            return done.result()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(lambda: [t.cancel() for t in tasks])
            concurrent.futures.wait([done], _CLEANUP)
            raise

    def _api(self, where: Connection) -> Api:
        # Settings may change within a process: tests and notebooks switch servers.
        known = next((a for a in self._apis if a.connection == where), None)
        if known is None:
            known = Api(where, give_up_after=PATIENCE)
            self._apis.append(known)
        return known

    def close(self) -> None:
        async def end() -> None:
            for api in self._apis:
                await api.close()

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
        if not self._loop.is_running():
            self._loop.close()


_lock = threading.Lock()
_current: _Portal | None = None


def _portal() -> _Portal:
    global _current
    with _lock:
        if _current is None:
            _current = _Portal()
            atexit.register(_current.close)
        return _current


def _forget() -> None:
    """A forked child has no thread: it starts its own when it asks."""
    global _current, _lock
    if _current is not None:
        atexit.unregister(_current.close)
    _current, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
