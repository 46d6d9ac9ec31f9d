"""Prefect's server, started as `prefect` starts it but for six things that it does badly.

    python -m clearflow._prefect.server server start --port 4200

Writers. SQLite has one at a time. A stock server lets its requests fight for that: the unlucky
look again and again for up to a minute, and one that reads before it writes is refused whenever
another one wrote in between. With eight clients at work the heartbeat of an agent took up to 26 s,
and a machine that is not heard of has lost its tasks. Here they stand in line, and whoever writes
events down does too.

Cursors. A statement that fails, or whose request is given up, leaves its cursor, and the lock it
has, to Python's garbage collector. When that runs in the thread of the event loop it waits there
for whatever the connection's own thread is doing, which may be to wait for the event loop: a stock
server stands still for a minute like that. Here the connection's thread closes them at once.

The time zones. Each schedule that it reads is checked against all there are, and Python walks
through the folders of the time zone database for that. With a thousand schedules a stock server
did nothing else for a minute, whenever one of them needed a run. Here they are looked up once.

Schemas. Whether the schema of a pool's job variables is one is checked twice for each run that is
made, and takes longer than making it; whether a run's variables keep to it takes a tenth of that
time. Here each schema, and each set of variables, is checked once.

Streams. On SQLite it works on a hundred requests at once, and counts every stream of events among
them, which stays open. With a hundred agents and running flows a stock server answers nobody any
more, for ever. Here streams do not count.

Late runs. What has waited for 15 s is renamed `Late`, ten at once, until all are: with SQLite these
lock each other out, and everybody else. When two hundred schedules were due in one minute nothing
was launched for minutes. With SQLite nobody renames them, unless somebody sets so.
"""

from __future__ import annotations

import functools
import gc
import os
import runpy
import sys
import zoneinfo
from typing import Any

_LATE = "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED"
_DATABASE = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")


def _close_what_failed() -> None:
    import aiosqlite

    kind: Any = aiosqlite.Cursor
    run = kind._execute

    async def or_close(cursor: Any, function: Any, *args: Any, **options: Any) -> Any:
        try:
            return await run(cursor, function, *args, **options)
        except BaseException:
            # What was asked for is still done by the connection's thread; this comes after it.
            cursor._conn._tx.put_nowait((None, cursor._cursor.close))
            raise

    kind._execute = or_close


def _keep_what_is_loaded() -> None:
    """Code and schemas stay: to look for garbage among them would stop all requests each time."""
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
    from clearflow._prefect import private

    private.check_once()
    private.queue_writers()
    private.limit_requests_only()
    _close_what_failed()
    _keep_what_is_loaded()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
