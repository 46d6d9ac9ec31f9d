"""Artifacts that stand for entries of the registry: one each, under a key that a name has.

So the Prefect UI shows a name as one artifact whose history is its versions. Each is Markdown for
people, and holds in a comment what programs need.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from clearflow._prefect.artifacts import MARKDOWN
from clearflow._prefect.http import Api
from clearflow.errors import NotFound

_OPEN, _CLOSE = "\n\n<!-- clearflow ", " -->"
_PAGE = 200  # the server's limit


@dataclass(frozen=True)
class Card:
    """What a card says, to programs and to people."""

    key: str
    id: str
    said: Mapping[str, Any]
    text: str
    title: str


async def put(api: Api, card: Card, *, new: bool = False) -> None:
    """Have the card of an id; one that is `new` is not looked for, and the latest of its key."""
    data = card.text + _OPEN + json.dumps(card.said).replace("--", "-\\u002d") + _CLOSE
    about = {"clearflow": "card", "id": card.id}
    body = {"data": data, "description": card.title, "metadata_": about}
    if not new:
        async for found in _cards(api, {"any_": [card.key]}):
            if found["metadata_"]["id"] == card.id:
                await api.patch(f"/artifacts/{found['id']}", body)
                return
    await api.post("/artifacts/", {**body, "key": card.key, "type": MARKDOWN})


async def read(api: Api, prefix: str) -> dict[str, dict[str, Any]]:
    """What the cards say whose keys begin like this, by their ids."""
    said: dict[str, dict[str, Any]] = {}
    async for found in _cards(api, {"like_": prefix}):
        _, mark, rest = str(found["data"]).partition(_OPEN)
        if mark and str(found["key"]).startswith(prefix):
            said.setdefault(found["metadata_"]["id"], json.loads(rest.removesuffix(_CLOSE)))
    return said


async def remove(api: Api, key: str, id: str) -> None:
    """There is no card of this id."""
    found = [c async for c in _cards(api, {"any_": [key]}) if c["metadata_"]["id"] == id]
    for each in found:
        try:
            await api.delete(f"/artifacts/{each['id']}")
        except NotFound:
            continue


async def _cards(api: Api, key: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The newest first."""
    where = {"key": key, "type": {"any_": [MARKDOWN]}}
    seen: set[str] = set()
    offset = 0
    while True:
        body = {"artifacts": where, "sort": "CREATED_DESC", "limit": _PAGE, "offset": offset}
        page = await api.post("/artifacts/filter", body)
        for item in page:
            about = item.get("metadata_") or {}
            # New ones push the others on to the next page.
            if item["id"] not in seen and about.get("clearflow") == "card":
                seen.add(item["id"])
                yield item
        if len(page) < _PAGE:
            return
        offset += len(page)
