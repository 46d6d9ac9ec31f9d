"""Which store is named: the block document `clearflow-store`, and the credentials it names."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

from clearflow._prefect.http import Api
from clearflow.errors import NotFound, Usage
from clearflow.words.places import CREDENTIALS, Place, options_of

SLUG = NAME = "clearflow-store"
_FRESH = 2.0
"""For so many seconds what was said of the place is believed: one call follows another."""
_known: WeakKeyDictionary[Api, tuple[float, Place]] = WeakKeyDictionary()


async def store_place(api: Api) -> Place:
    """Where the store is; the folder of this machine's own where nobody has named one.

    Raises NotFound for credentials that are not there.
    """
    asked, place = _known.get(api, (0.0, None))
    if place is None or time.monotonic() - asked > _FRESH:
        place = await _store_place(api)
        _known[api] = time.monotonic(), place
    return place


def look_again(api: Api) -> None:
    """Another store may have been named."""
    _known.pop(api, None)


async def _store_place(api: Api) -> Place:
    try:
        values = await _document(api, SLUG, NAME)
    except NotFound:
        return Place("")
    options = await credentials(api, values["credentials"]) if values.get("credentials") else {}
    return Place(values["url"], options, values.get("mark") or "", values.get("host") or "")


async def credentials(api: Api, block: str) -> dict[str, Any]:
    """What fsspec needs, from a block named as TYPE/NAME. Raises Usage and NotFound."""
    kind, slash, name = block.partition("/")
    if not slash or kind not in CREDENTIALS:
        raise Usage(
            f"{block!r} names no credentials",
            hint=f"TYPE/NAME, with one of {', '.join(CREDENTIALS)}",
        )
    try:
        return options_of(kind, await _document(api, kind, name))
    except NotFound:
        raise NotFound(
            f"there is no block {block!r}", hint="`prefect block ls` lists them, as TYPE/NAME"
        ) from None


async def forget_store(api: Api) -> None:
    """Each machine has its own folder again."""
    look_again(api)
    try:
        found = await api.get(f"/block_types/slug/{SLUG}/block_documents/name/{NAME}")
    except NotFound:
        return
    await api.delete(f"/block_documents/{found['id']}")


async def _document(api: Api, kind: str, name: str) -> dict[str, Any]:
    path = f"/block_types/slug/{kind}/block_documents/name/{name}"
    return dict((await api.get(path, include_secrets="true"))["data"])
