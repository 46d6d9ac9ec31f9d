"""Large contents on their way from a program to the store and back, piece by piece."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import time
from pathlib import Path

from clearflow import links, stores
from clearflow._prefect import places, runs
from clearflow._prefect.http import Api
from clearflow.errors import Refused, Usage
from clearflow.service.verbs import Verb
from clearflow.settings import settings
from clearflow.store import Store
from clearflow.store.streams import hash_of
from clearflow.tasks import find as finding
from clearflow.tasks.describe import OUTPUT, describe
from clearflow.words.places import Place

PIECE = 1 << 22  # bytes of an answer
_STALE = 86_400.0  # seconds
_STORED = "store:"
_ELSEWHERE = "elsewhere:"
_NAMELESS = re.compile(r"[/\\\\\0]+")


class Spool:
    """Takes contents piece by piece, and keeps them in the store."""

    def __init__(self, api: Api, by: str) -> None:
        self._api = api

    def verbs(self) -> dict[str, Verb]:
        return {"spool": self._spool, "keep": self._keep, "output": self._output}

    async def _output(self, task: str, uri: str | bool) -> None:
        """Have the models and artifacts of a task kept there: True for the store.

        False leaves models that libraries save where they are. Raises Refused for an address where
        nothing can be written.
        """
        if uri is True:
            await stores.opened(self._api)
        elif uri:
            await links.check(str(uri), await places.store_place(self._api))
        run = await finding.one(self._api, task)
        await runs.label(self._api, run.id, {OUTPUT: uri})

    async def _spool(self, name: str, data: str) -> None:
        with _file(name).open("ab") as file:
            file.write(base64.b64decode(data))

    async def _keep(self, name: str, task: str | None = None, path: str = "") -> str:
        """Where it is kept: what `artifact` needs to find it again.

        Of a task that has named a place for it: there, as `path` below a folder of the task's.
        """
        file = _file(name)
        try:
            folder = await self._folder(task) if task is not None else None
            if folder is not None:
                url = f"{folder}/{path or name}"
                await links.send(file, url, await places.store_place(self._api))
                return f"{_ELSEWHERE}{hash_of(file)}@{url}"
            store = await stores.opened(self._api)
            digest = await store.put(file)
        finally:
            file.unlink(missing_ok=True)
        # A folder that each machine has for itself says whose it is.
        return f"{_STORED}{digest}" + ("" if store.place.shared else f"@{socket.gethostname()}")

    async def _folder(self, task: str) -> str | None:
        """The folder of a task at the place that it has named; None for the store."""
        seen = describe(self._api, await finding.one(self._api, task))
        if not isinstance(seen["output"], str):
            return None
        names = (str(seen["project"] or "default"), f"{seen['name']}.{seen['id']}")
        return "/".join([seen["output"].rstrip("/"), *(_NAMELESS.sub("_", n) for n in names)])


def is_stored(content: str) -> bool:
    """Whether a content lies in the store, or elsewhere."""
    return content.startswith((_STORED, _ELSEWHERE))


def elsewhere(content: str) -> tuple[str, str] | None:
    """The hash and the address of a content that lies elsewhere."""
    if not content.startswith(_ELSEWHERE):
        return None
    digest, _, url = content.removeprefix(_ELSEWHERE).partition("@")
    return digest, url


async def piece_of(api: Api, content: str, offset: int) -> tuple[bytes, int]:
    """A piece of a content in the store, and how large it is altogether.

    It is fetched to this machine with its first piece, and forgotten with its last. Raises Refused
    in one line where this machine does not reach it.
    """
    away = elsewhere(content)
    digest, _, host = content.removeprefix(_STORED).partition("@")
    file = _file(away[0] if away is not None else digest)
    if away is not None and (offset == 0 or not file.exists()):
        await links.fetch([(away[1], file)], await places.store_place(api))
    elif offset == 0 or not file.exists():
        if host and host != socket.gethostname():
            raise Refused(
                f"it is kept in a folder of {host}, which this machine does not reach",
                hint="`clearflow store set URL` names a store that all machines reach",
            )
        store = Store(Place("")) if host else await stores.opened(api)
        await store.get(digest, file)
    with file.open("rb") as source:
        total = source.seek(0, 2)
        source.seek(offset)
        piece = source.read(PIECE)
    if offset + len(piece) >= total:
        file.unlink(missing_ok=True)
    return piece, total


def _file(name: str) -> Path:
    if not re.fullmatch("[0-9a-f]{16,64}", name):
        raise Usage(f"{name!r} names no content")
    folder = settings().home_path / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    for each in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - each.stat().st_mtime > _STALE:
                each.unlink()  # whoever wrote it has died
    return folder / name
