"""Prefect's server, started as `prefect` starts it but for one thing: who collects its garbage.

    python -m clearflow._prefect.server server start --port 4200

With SQLite a stock server can freeze for up to a minute. Python's collector runs in whatever
thread happens to allocate, mostly the one with the event loop. When it finds a forgotten database
cursor there, it resets it, and SQLite makes it wait as long as that connection waits for the write
lock: which is held by a request that the event loop would have to go on with. Here a thread of
its own collects, so that only it waits.
"""

from __future__ import annotations

import gc
import runpy
import sys
import threading
import time

_EVERY = 0.5
_STARTED = 60  # turns


def _collect() -> None:
    turn = 0
    while True:
        time.sleep(_EVERY)
        turn += 1
        gc.collect(2 if turn % 120 == 0 else 1 if turn % 10 == 0 else 0)
        if turn == _STARTED:
            # Code and schemas stay: to look at them again and again would stop all requests.
            gc.collect()
            gc.freeze()


def main() -> None:
    gc.disable()
    threading.Thread(target=_collect, daemon=True, name="garbage").start()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
