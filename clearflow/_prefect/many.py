"""The same for many tasks: one that cannot be done does not keep the others from being done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError, Refused, Unauthorized, Unreachable
from clearflow.words.models import Run

T = TypeVar("T")
R = TypeVar("R")

# Told of every step: how many are done, of how many (None: nobody knows).
Progress = Callable[[int, int | None], None]

_SHOWN = 5
# How many tasks are taken at once where their order does not matter: one waits for the server's
# disk while another one thinks. More of them make SQLite slower, not faster.
WIDTH = 4


def quiet(done: int, total: int | None) -> None:
    """A progress that nobody watches."""


async def each(
    items: Sequence[T],
    act: Callable[[T], Awaitable[R]],
    progress: Progress = quiet,
    *,
    width: int = 1,
) -> list[R]:
    """Do it for each, `width` at a time. What was returned, of those where it could be done.

    Raises at the end for those where it could not: the error itself when it is the only item,
    else Refused with the first few. A server that does not answer ends it at once.
    """
    done: dict[int, R] = {}
    failed: list[ClearflowError] = []
    left = iter(enumerate(items))

    async def work() -> None:
        for number, item in left:
            try:
                done[number] = await act(item)
            except (Unreachable, Unauthorized):
                raise
            except ClearflowError as error:
                if len(items) == 1:
                    raise
                failed.append(error)
            progress(len(done) + len(failed), len(items))

    progress(0, len(items))
    await together(*(work() for _ in range(width)))
    if failed:
        shown = [f.message for f in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            shown.append(f"and {len(failed) - _SHOWN} more")
        raise Refused(f"{len(done)} of {len(items)} done; {'; '.join(shown)}")
    return [done[number] for number in sorted(done)]


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """All at once; the first error ends the others, and waits until they have ended."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def resolve(api: Api, tasks: Iterable[str]) -> list[Run]:
    """The current runs of these tasks, each once, in the order given. Raises NotFound."""
    wanted = list(dict.fromkeys(tasks))
    if len(wanted) == 1:
        return [await runs.resolve(api, wanted[0])]
    known: dict[str, Run] = {}
    for start in range(0, len(wanted), runs.PAGE):
        part = [t for t in wanted[start : start + runs.PAGE] if runs.is_id(t)]
        if part:
            known.update({r.id: r async for r in runs.find(api, {"id": {"any_": part}})})
    found = [
        known[t] if t in known and not runs.may_have_moved(known[t]) else await runs.resolve(api, t)
        for t in wanted
    ]
    return list({r.id: r for r in found}.values())
