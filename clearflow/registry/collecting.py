"""What nobody needs any more leaves the store: of entries that were deleted, or changed since.

Only what an entry has named at some time is looked at. Contents of tasks lie in the same store, and
what is the same as one of these stays.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from datetime import timedelta

from clearflow._prefect import artifacts
from clearflow._prefect.http import Api
from clearflow.errors import NotFound
from clearflow.registry.registry import Registry
from clearflow.store import Store
from clearflow.words.entries import DATASET, MODEL, Entry
from clearflow.words.manifest import Manifest

_DIGEST = re.compile("[0-9a-f]{64}")
_MANIFEST = re.compile('"manifest": *"([0-9a-f]{64})"')
SAFE_AGE = timedelta(days=1)
"""What was stored, or found there, since then may belong to an upload that goes on."""


async def collect(api: Api, store: Store, age: timedelta = SAFE_AGE) -> tuple[int, int]:
    """Delete what only entries named that are gone or changed since; how many, and bytes.

    What is left of interrupted uploads goes too.
    """
    records = await store.records("registry")
    named = set()
    for content in records.values():
        said = content.decode()
        named |= set(_DIGEST.findall(said))
        named |= await _inside(store, _MANIFEST.findall(said))
    unneeded = await spared(api, store, named)
    old = await store.older(unneeded, age.total_seconds())
    await store.delete(old)
    await store.tidy(age.total_seconds())
    return len(old), sum(old.values())


async def spared(api: Api, store: Store, named: set[str]) -> set[str]:
    """Those of these objects that no dataset, no model and no artifact of a task needs."""
    left = named - await needed(api, store)
    if left:
        async for table in artifacts.tables(api):
            left -= set(_DIGEST.findall(json.dumps(table.data)))
    return left


async def needed(api: Api, store: Store) -> set[str]:
    """Everything in the store that datasets and models need that are not deleted."""
    found: set[str] = set()
    for kind in (DATASET, MODEL):
        known = {e.id: e for e in await Registry(api, store, kind, by="").all(deleted=True)}
        waiting = [each for each in known.values() if not each.deleted]
        seen = set()
        while waiting:
            entry = waiting.pop()
            if entry.id not in seen:
                seen.add(entry.id)
                found |= await of(store, entry)
                # Also of those that were deleted by force, while others stand on them.
                waiting += [known[parent] for parent in entry.parents if parent in known]
    return found


async def of(store: Store, entry: Entry) -> set[str]:
    """Everything in the store that an entry itself names."""
    said = json.dumps(dict(entry.about))
    return set(_DIGEST.findall(said)) | await _inside(store, _MANIFEST.findall(said))


async def _inside(store: Store, manifests: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for digest in set(manifests):
        with contextlib.suppress(NotFound):
            found |= Manifest.parse(await store.get_bytes(digest)).objects()
    return found
