"""What a program of ours has to know when it starts again: one artifact each, changed in place.

Unlike a variable it has room; unlike an event it stays.
"""

from __future__ import annotations

import json
from typing import Any

from clearflow._prefect.artifacts import HIDDEN
from clearflow._prefect.http import Api
from clearflow.errors import NotFound
from clearflow.words.names import slug


class Keepsake:
    """A JSON value under a name. One program at a time writes it."""

    def __init__(self, api: Api, kind: str, name: str) -> None:
        self._api, self._key = api, f"clearflow-{kind}-{slug(name)}"
        self._description = f"What {kind} {name!r} remembers."
        self._id: str | None = None

    async def read(self) -> Any:
        """The value; None when there is none yet."""
        try:
            found = await self._api.get(f"/artifacts/{self._key}/latest")
        except NotFound:
            return None
        self._id = str(found["id"])
        return json.loads(found["data"])

    async def write(self, value: Any) -> None:
        body = {"data": json.dumps(value), "description": self._description}
        if self._id is not None:
            try:
                await self._api.patch(f"/artifacts/{self._id}", body)
            except NotFound:
                self._id = None
        if self._id is None:
            made = await self._api.post("/artifacts/", {**body, "key": self._key, "type": HIDDEN})
            self._id = str(made["id"])

    async def forget(self) -> None:
        """Remove it."""
        if await self.read() is not None:
            await self._api.delete(f"/artifacts/{self._id}")
            self._id = None
