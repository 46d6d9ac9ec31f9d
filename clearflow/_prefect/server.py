"""Prefect's server, started as `prefect` starts it but for five things that it does badly.

    python -m clearflow._prefect.server server start --port 4200

The garbage. With SQLite a stock server can freeze for up to a minute. Python's collector runs in
whatever thread happens to allocate, mostly the one with the event loop. When it finds a forgotten
database cursor there, it resets it, and SQLite makes it wait as long as that connection waits for
the write lock: which is held by a request that the event loop would have to go on with. Here a
thread of its own collects, so that only it waits.

The time zones. Each schedule that it reads is checked against all there are, and Python walks
through the folders of the time zone database for that. With a thousand schedules a stock server
did nothing else for a minute, whenever one of them needed a run. Here they are looked up once.

Schemas. Whether the schema of a pool's job variables is one is checked twice for each run that is
made, and takes longer than making it. Here each is checked once.

Late runs. What has waited for 15 s is renamed `Late`, ten at once, until all are: with SQLite these
lock each other out, and everybody else. When two hundred schedules were due in one minute nothing
was launched for minutes. With SQLite nobody renames them, unless somebody sets so.

Waiting. For a locked SQLite a request waits a minute, and with it whoever waits for that request.
Here it is answered after 15 s that it should come again, as clients do.
"""

from __future__ import annotations

import functools
import gc
import os
import runpy
import sys
import threading
import time
import zoneinfo

_EVERY = 0.5
_LATE = "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED"
_DATABASE = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")


def _collect() -> None:
    turn = 0
    while True:
        time.sleep(_EVERY)
        turn += 1
        # A request that its client left in the middle may hold the write lock until it is found.
        gc.collect(2 if turn % 40 == 0 else 1 if turn % 4 == 0 else 0)


def _keep_what_is_loaded() -> None:
    """Code and schemas stay: to look at them again and again would stop all requests.

    Before the first request: what one forgets must be found, and nothing that is kept ever is.
    """
    import uvicorn

    load = uvicorn.Config.load

    def and_keep(config: uvicorn.Config) -> None:
        load(config)
        gc.collect()
        gc.freeze()

    uvicorn.Config.load = and_keep  # type: ignore[method-assign, assignment]


def main() -> None:
    # Before Prefect takes its own name for it.
    zoneinfo.available_timezones = functools.cache(zoneinfo.available_timezones)
    if not any(os.environ.get(name, "").startswith("postgres") for name in _DATABASE):
        os.environ.setdefault(_LATE, "false")
    gc.disable()
    from clearflow._prefect import private

    private.check_schemas_once()
    private.wait_less_for_sqlite()
    _keep_what_is_loaded()
    threading.Thread(target=_collect, daemon=True, name="garbage").start()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
