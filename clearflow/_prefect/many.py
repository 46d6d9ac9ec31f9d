"""The same for many tasks: one that cannot be done does not keep the others from being done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError, Refused, Unauthorized, Unreachable
from clearflow.words.models import Run

T = TypeVar("T")
R = TypeVar("R")

# Told of every step: how many are done, of how many (None: nobody knows).
Progress = Callable[[int, int | None], None]

_SHOWN = 5


def quiet(done: int, total: int | None) -> None:
    """A progress that nobody watches."""


async def each(
    items: Sequence[T], act: Callable[[T], Awaitable[R]], progress: Progress = quiet
) -> list[R]:
    """Do it for each in turn. What was returned, of those where it could be done.

    Raises at the end for those where it could not: the error itself when it is the only item,
    else Refused with the first few. A server that does not answer ends it at once.
    """
    done: list[R] = []
    failed: list[ClearflowError] = []
    progress(0, len(items))
    for number, item in enumerate(items, 1):
        try:
            done.append(await act(item))
        except (Unreachable, Unauthorized):
            raise
        except ClearflowError as error:
            if len(items) == 1:
                raise
            failed.append(error)
        progress(number, len(items))
    if failed:
        shown = [f.message for f in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            shown.append(f"and {len(failed) - _SHOWN} more")
        raise Refused(f"{len(done)} of {len(items)} done; {'; '.join(shown)}")
    return done


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
