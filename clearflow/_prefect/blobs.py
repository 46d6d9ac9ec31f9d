"""Files that travel through the Prefect server, so that two machines need share nothing else.

A file is cut into pieces; each is an artifact of its own, keyed by the hash of its content, tied to
no run. What the server has already is not sent again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clearflow._prefect.http import Api
from clearflow.errors import NotFound, Refused, ServerError

TYPE = "clearflow-blob"
PIECE = 256 * 1024  # bytes
LARGEST = 16_000_000  # bytes of one file

Progress = Callable[[int, int], None]
"""Told how many bytes of how many are done."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file on the server: the hashes of its pieces, in order."""

    pieces: tuple[str, ...]


async def put(api: Api, file: Path, progress: Progress = lambda done, total: None) -> Blob:
    """Send a file. Raises Refused when it is larger than LARGEST."""
    total = file.stat().st_size  # noqa: ASYNC240 - a local file
    if total > LARGEST:
        raise Refused(
            f"{total / 1e6:.0f} MB are too much to send through Prefect: at most"
            f" {LARGEST / 1e6:.0f} MB",
            hint="large files go to a store: `clearflow store set URL` names one",
        )
    pieces = []
    with file.open("rb") as source:
        while piece := source.read(PIECE):
            pieces.append(await _put(api, piece))
            progress(source.tell(), total)
    return Blob(tuple(pieces))


async def _put(api: Api, piece: bytes) -> str:
    digest = hashlib.sha256(piece).hexdigest()
    try:
        await api.get(f"/artifacts/{_key(digest)}/latest")
    except NotFound:
        body = {
            "key": _key(digest),
            "type": TYPE,
            "data": base64.b64encode(piece).decode(),
            "description": "A piece of a file that clearflow keeps here.",
        }
        await api.post("/artifacts/", body)
    return digest


async def get(api: Api, blob: Blob, file: Path) -> None:
    """Fetch a file. Raises NotFound when a piece is there no more, ServerError when it is wrong."""
    with file.open("wb") as target:
        for digest in blob.pieces:
            found = await api.get(f"/artifacts/{_key(digest)}/latest")
            piece = base64.b64decode(found["data"])
            if hashlib.sha256(piece).hexdigest() != digest:
                raise ServerError(f"the artifact {_key(digest)} is not what was stored in it")
            target.write(piece)


def _key(digest: str) -> str:
    return f"{TYPE}-{digest[:32]}"
