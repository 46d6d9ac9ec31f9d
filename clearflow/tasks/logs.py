"""The console of a task, whole or as it comes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from clearflow._prefect import logs, runs
from clearflow._prefect.http import Api
from clearflow._prefect.logs import Line
from clearflow.errors import NotFound
from clearflow.words.models import Run

_FAST, _SLOW = 0.4, 2.0  # seconds between two looks: while lines come, and while none come
# Lines of several writers arrive out of order by a few seconds: they are looked for again.
_OVERLAP = timedelta(seconds=15)
# Prefect's own logger ships lines some time after they were written.
_AFTER_THE_END = 3.0


async def read(api: Api, run: Run, last: int | None = None) -> AsyncIterator[Line]:
    """The lines so far; only the `last` ones when asked for."""
    if last is not None:
        for line in await logs.last(api, [run.id], last):
            yield line
        return
    async for line in logs.read(api, [run.id]):
        yield line


async def follow(api: Api, run: Run, last: int | None = None) -> AsyncIterator[Line]:
    """The lines so far, and those that come, until the task has ended and its console is still.

    Follows the task to another queue and through its attempts.
    """
    seen: OrderedDict[str, None] = OrderedDict()
    newest: datetime | None = None
    wait, ended_for = _FAST, 0.0
    async for line in read(api, run, last):
        seen[line.id] = None
        newest = line.at
        yield line
    if last is not None and newest is None:
        newest = api.clock.now()
    while True:
        run, ended = await _look(api, run)
        fresh = [line async for line in _since(api, run, newest) if line.id not in seen]
        for line in fresh:
            seen[line.id] = None
            newest = max(newest, line.at) if newest else line.at
            yield line
        while len(seen) > 20_000:
            seen.popitem(last=False)
        wait = _FAST if fresh or ended else min(wait * 1.5, _SLOW)
        ended_for = ended_for + wait if ended and not fresh else 0.0
        if ended_for > _AFTER_THE_END or (ended and run.started is None):
            return
        await asyncio.sleep(wait)


async def _since(api: Api, run: Run, newest: datetime | None) -> AsyncIterator[Line]:
    since = newest - _OVERLAP if newest else None
    async for line in logs.read(api, [run.id], since=since):
        yield line


async def _look(api: Api, run: Run) -> tuple[Run, bool]:
    try:
        fresh = await runs.read(api, run.id)
    except NotFound:
        fresh = await runs.resolve(api, run.task_id)
    return fresh, fresh.state is not None and fresh.state.final
