"""Making many runs in few requests, for code that makes each by itself.

Inside of `together` the runs that are made at the same time go to the server as one request for
each deployment. What a request costs beside the run that it makes is more than the run; and the
server reads all Variables for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from clearflow._prefect.http import Api
from clearflow.errors import Refused, ServerError, Unreachable

WIDTH = 50
"""So many are made in one request, in one transaction: others wait for it to end."""
_GATHERS = 0.02  # seconds
_AGAIN = 0.1
_TRIES = 50

Made = dict[str, Any]
Waiting = tuple[dict[str, Any], "asyncio.Future[Made]"]


class Bulk:
    """Runs that are to be made, by their deployments."""

    def __init__(self, api: Api, fresh: bool) -> None:
        self._api, self._fresh = api, fresh
        self._waiting: dict[str, list[Waiting]] = {}
        self._writing = asyncio.Lock()
        self._sending: set[asyncio.Task[None]] = set()

    async def create(self, deployment: str, body: dict[str, Any]) -> Made:
        """A run as the server tells it, or as it was said and has become: it has a name and a key.

        The existing one when its idempotency key is known. Raises Refused.
        """
        waiting = self._waiting.setdefault(deployment, [])
        mine: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        waiting.append((body, mine))
        if len(waiting) == 1:
            self._sending.add(sending := asyncio.create_task(self._send(deployment)))
            sending.add_done_callback(self._sending.discard)
        return await mine

    async def _send(self, deployment: str) -> None:
        await asyncio.sleep(_GATHERS)
        async with self._writing:
            waiting = self._waiting.pop(deployment)
            for start in range(0, len(waiting), WIDTH):
                some = waiting[start : start + WIDTH]
                try:
                    await self._make(deployment, some)
                except BaseException as error:
                    for _, future in some:
                        if not future.done():
                            future.set_exception(error)

    async def _make(self, deployment: str, some: list[Waiting]) -> None:
        """All of them are said again until all are there: their keys make sure of one of each.

        SQLite may be locked for one of them, and the server then forgets those before it as well.
        """
        path = f"/deployments/{deployment}/create_flow_run/bulk"
        for _ in range(_TRIES):
            try:
                answer = await self._api.post(path, [body for body, _ in some])
            except ServerError:  # it could not commit them
                await asyncio.sleep(_AGAIN)
                continue
            results = list(zip(some, answer["results"], strict=True))
            for (_, future), result in results:
                if result["status"] != "CREATED" and not _may_go_again(result):
                    future.set_exception(Refused(str(result.get("error"))))
            left = [(each, r) for each, r in results if not each[1].done()]
            some = [each for each, _ in left]
            if all(r["status"] == "CREATED" for _, r in left):
                ids = [str(r["flow_run_id"]) for _, r in left]
                if self._fresh and len(left) == len(results):
                    for (body, future), id in zip(some, ids, strict=True):
                        future.set_result({**body, "id": id})
                    return
                where = {"flow_runs": {"id": {"any_": ids}}, "limit": max(len(ids), 1)}
                found = {str(i["id"]): i for i in await self._api.post("/flow_runs/filter", where)}
                if set(ids) <= set(found):
                    for (_, future), id in zip(some, ids, strict=True):
                        future.set_result(found[id])
                    return
            await asyncio.sleep(_AGAIN)
        raise Unreachable(f"the server did not make {len(some)} runs in {_TRIES} tries")


def _may_go_again(result: Mapping[str, Any]) -> bool:
    error = str(result.get("error"))
    return "locked" in error or "rolled back" in error


_current: ContextVar[Bulk | None] = ContextVar("together", default=None)


def current() -> Bulk | None:
    """The one that code of this moment makes its runs with."""
    return _current.get()


@contextlib.contextmanager
def together(api: Api, *, fresh: bool = False) -> Iterator[None]:
    """Inside, runs that are made at the same time are made in one request.

    `fresh`: nobody has said any of their idempotency keys before, so that each run is as it was
    said, and need not be read.
    """
    token = _current.set(Bulk(api, fresh))
    try:
        yield
    finally:
        _current.reset(token)
