"""Requests that the supervisor makes for the task's process, so that the flow need not wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError, NotFound


class Errands:
    """What one flow's engine wants to know beforehand, and what it wants written meanwhile."""

    def __init__(self, api: Api, run_id: str, say: Callable[[str], None]) -> None:
        self._api, self._run_id, self._say = api, run_id, say
        self._storage: asyncio.Task[dict[str, Any]] | None = None
        self._changes: dict[str, Any] = {}
        self._writing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The claim stands, a flow will run: ask for what it will want to know."""
        if self._storage is None:
            self._storage = asyncio.create_task(self._ask_storage())

    async def storage(self) -> dict[str, Any]:
        """The server's default result storage; empty when it has none."""
        self.begin()
        assert self._storage is not None
        return await self._storage

    async def _ask_storage(self) -> dict[str, Any]:
        # A server that does not know of it is one without.
        with contextlib.suppress(ClearflowError):
            return dict(await self._api.get("/admin/storage"))
        return {}

    def update(self, changes: dict[str, Any]) -> None:
        """Changes of the run, to be written before its next state after Running."""
        self._changes.update(changes)

    def running(self) -> None:
        """The flow has started: now the server has time for it."""
        if self._changes:
            changes, self._changes = self._changes, {}
            self._writing = asyncio.create_task(self._write(changes))

    async def _write(self, changes: dict[str, Any]) -> None:
        try:
            await runs.patch(self._api, self._run_id, **changes)
        except NotFound:
            return  # the run was deleted
        except ClearflowError as error:
            self._say(f"Prefect does not take the flow's version and retries: {error}")

    async def done(self) -> None:
        """Until everything is written."""
        self.running()
        if self._writing is not None:
            await self._writing

    def drop(self) -> None:
        """The claim is somebody else's, or nobody asks any more."""
        for task in (self._storage, self._writing):
            if task is not None:
                task.cancel()
