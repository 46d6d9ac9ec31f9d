"""Deleting a dataset: refused while a child needs it; what nobody else has leaves the store."""

from __future__ import annotations

import json
import re

from clearflow.datasets import copies, drafts
from clearflow.datasets.shelf import Shelf, uploads
from clearflow.errors import Refused
from clearflow.registry import Registry
from clearflow.words import entries
from clearflow.words.entries import MODEL, Entry

_DIGEST = re.compile("[0-9a-f]{64}")


async def delete(shelf: Shelf, id: str, *, force: bool = False) -> Entry:
    """Delete a dataset and what only it has. Raises Refused for one that another stands on.

    With `force` it goes all the same; its children keep what they have of it.
    """
    entry = await shelf.get(id)
    registry = await shelf.registry()
    others = [each for each in await registry.all() if each.id != entry.id]
    children = [each for each in others if entry.id in each.parents]
    if not force:
        if children:
            raise Refused(
                f"the dataset {entry.title} is needed by {children[0].title}"
                + (f" and {len(children) - 1} more" if len(children) > 1 else ""),
                hint="delete that one first, or use force",
            )
        if entry.status == entries.PUBLISHED:
            raise Refused(
                f"the dataset {entry.title} is published", hint="force deletes it all the same"
            )
    mine = await _all_objects(shelf, entry)
    after = await registry.change(entry.id, entries.DELETED)
    needed: set[str] = set()
    for each in others:
        needed |= await _all_objects(shelf, each)
    needed |= await _of_models(shelf)
    await registry.store.delete(mine - needed)
    drafts.forget(entry.id)
    copies.forget(entry.id)
    return after


async def _all_objects(shelf: Shelf, entry: Entry) -> set[str]:
    """What a dataset needs: also of those it comes from, which may have been deleted by force."""
    registry = await shelf.registry()
    found = set()
    for id in await shelf.graph(entry):
        found |= await _objects(shelf, await registry.get(id))
    return found


async def _objects(shelf: Shelf, entry: Entry) -> set[str]:
    """Everything in the store that a dataset itself names."""
    names = uploads(entry) + ([entry.about["manifest"]] if "manifest" in entry.about else [])
    found = set(names) | set(_DIGEST.findall(json.dumps(dict(entry.about))))
    for each in names:
        found |= (await shelf.manifest(each)).objects()
    return found


async def _of_models(shelf: Shelf) -> set[str]:
    """What models have may be the same as what a dataset has."""
    models = Registry(shelf.api, await shelf.store(), MODEL, by=shelf.by)
    return {
        digest
        for each in await models.all()
        for digest in _DIGEST.findall(json.dumps(dict(each.about)))
    }
