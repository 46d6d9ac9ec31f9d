"""Large contents on their way from a program to the store and back, piece by piece."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import time
from pathlib import Path

from clearflow import stores
from clearflow._prefect.http import Api
from clearflow.errors import Refused, Usage
from clearflow.service.verbs import Verb
from clearflow.settings import settings
from clearflow.store import Store
from clearflow.words.places import Place

PIECE = 1 << 22  # bytes of an answer
_STALE = 86_400.0  # seconds
_STORED = "store:"


class Spool:
    """Takes contents piece by piece, and keeps them in the store."""

    def __init__(self, api: Api, by: str) -> None:
        self._api = api

    def verbs(self) -> dict[str, Verb]:
        return {"spool": self._spool, "keep": self._keep}

    async def _spool(self, name: str, data: str) -> None:
        with _file(name).open("ab") as file:
            file.write(base64.b64decode(data))

    async def _keep(self, name: str) -> str:
        """Where it is kept: what `artifact` needs to find it again."""
        file = _file(name)
        try:
            store = await stores.opened(self._api)
            digest = await store.put(file)
        finally:
            file.unlink(missing_ok=True)
        # A folder that each machine has for itself says whose it is.
        return f"{_STORED}{digest}" + ("" if store.place.shared else f"@{socket.gethostname()}")


def is_stored(content: str) -> bool:
    """Whether a content lies in the store."""
    return content.startswith(_STORED)


async def piece_of(api: Api, content: str, offset: int) -> tuple[bytes, int]:
    """A piece of a content in the store, and how large it is altogether.

    It is fetched to this machine with its first piece, and forgotten with its last. Raises Refused
    in one line where this machine does not reach it.
    """
    digest, _, host = content.removeprefix(_STORED).partition("@")
    file = _file(digest)
    if offset == 0 or not file.exists():
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
