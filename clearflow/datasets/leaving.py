"""Deleting a dataset: refused while a child needs it; what nobody else has leaves the store."""

from __future__ import annotations

from clearflow.datasets import cache, drafts
from clearflow.datasets.shelf import Shelf
from clearflow.errors import Refused
from clearflow.registry import collecting
from clearflow.words import entries
from clearflow.words.entries import Entry


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
    mine: set[str] = set()
    for each in await shelf.graph(entry):
        mine |= await collecting.of(registry.store, await registry.get(each))
    after = await registry.change(entry.id, entries.DELETED)
    await registry.store.delete(await collecting.spared(shelf.api, registry.store, mine))
    drafts.forget(entry.id)
    cache.forget(entry.id)
    return after
