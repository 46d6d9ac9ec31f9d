"""Waiting until tasks have ended: woken by events, and by a slow look when there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from clearflow._prefect import events, runs
from clearflow._prefect.http import Api
from clearflow.errors import NotFound
from clearflow.words.models import Run

# Events are hints: they come before the commit, and a busy stream drops some.
_AGAIN = (0.1, 0.5, 2.0)
_SLOW = 5.0

# Told of every task that has ended, as it ends.
Ended = Callable[[Run], None]


def _quiet(run: Run) -> None:
    """Nobody watches."""


async def wait(
    api: Api,
    tasks: Sequence[Run],
    *,
    timeout: float | None = None,
    ended: Ended = _quiet,
    enough: Callable[[Run], bool] = lambda run: False,
) -> list[Run]:
    """Their runs as they are when the last has ended, or has come so far, in the order given.

    Raises TimeoutError when that takes longer than `timeout` seconds, NotFound for one that is
    deleted meanwhile.
    """
    hint = asyncio.Event()
    listening = asyncio.create_task(_listen(api, tasks, hint))
    try:
        async with asyncio.timeout(timeout):
            return await _watch(api, list(tasks), hint, ended, enough)
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def _watch(
    api: Api,
    tasks: list[Run],
    hint: asyncio.Event,
    ended: Ended,
    enough: Callable[[Run], bool],
) -> list[Run]:
    current = {run.task_id: run for run in tasks}
    left = list(current)
    looks = 0
    while True:
        for run in await _look(api, [current[t] for t in left]):
            current[run.task_id] = run
            if (run.state is not None and run.state.final) or enough(run):
                left.remove(run.task_id)
                ended(run)
        if not left:
            return [current[run.task_id] for run in tasks]
        pause = _AGAIN[looks] if looks < len(_AGAIN) else _SLOW
        looks += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await hint.wait()
                looks = 0
                hint.clear()


async def _look(api: Api, tasks: Sequence[Run]) -> list[Run]:
    found: dict[str, Run] = {}
    for start in range(0, len(tasks), runs.PAGE):
        ids = [run.id for run in tasks[start : start + runs.PAGE]]
        found.update({r.id: r async for r in runs.find(api, {"id": {"any_": ids}})})
    looked = []
    for run in tasks:
        # One that is not there has gone to another queue, or was deleted.
        fresh = found.get(run.id)
        if fresh is None:
            fresh = await _moved(api, run)
        looked.append(fresh)
    return looked


async def _moved(api: Api, run: Run) -> Run:
    with suppress(NotFound):
        return await runs.resolve(api, run.task_id)
    raise NotFound(f"task {run.task_id[:8]} ({run.name}) has been deleted")


async def _listen(api: Api, tasks: Sequence[Run], hint: asyncio.Event) -> None:
    """Set the hint whenever something is heard of one of these tasks."""
    resources = [f"{events.FLOW_RUN}{run.id}" for run in tasks]
    async for _ in events.stream(api.connection, resources, [f"{events.FLOW_RUN}*"]):
        hint.set()
