"""Making a version of a dataset: a draft takes files, sends them, and is finalized for good."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from clearflow.datasets import drafts, sending
from clearflow.datasets.drafts import Draft
from clearflow.datasets.progress import Progress
from clearflow.datasets.scan import Source, scan
from clearflow.datasets.sending import Known
from clearflow.datasets.shelf import UPLOAD, Shelf, finalized, mutable, uploads
from clearflow.errors import Conflict, Refused, Usage
from clearflow.words import entries, manifest
from clearflow.words.entries import Entry
from clearflow.words.manifest import Difference, File, Files, Manifest

_DEEPEST = 20
"""So many versions are read one after the other; the next one stands for itself."""


async def create(
    shelf: Shelf,
    project: str,
    name: str,
    *,
    version: str | None = None,
    tags: Sequence[str] = (),
    parents: Sequence[str] = (),
    description: str = "",
) -> Entry:
    """A new draft. Raises Refused for parents that are not finalized."""
    for each in parents:
        finalized(await shelf.get(each))
    about = {"description": description} if description else {}
    full = [(await shelf.get(each)).id for each in parents]
    return await (await shelf.registry()).create(
        project, name, version=version, tags=tags, parents=full, about=about
    )


# -- what a draft takes ----------------------------------------------------------------------------


async def add(shelf: Shelf, id: str, paths: Sequence[str], **options: Any) -> int:
    """Take files and folders of this machine; how many files. `options` are those of `scan`."""
    entry = await shelf.get(id)
    mutable(entry)
    found: list[Source] = []
    for path in paths:
        found += await asyncio.to_thread(scan, path, **options)
    await drafts.change(entry.id, lambda draft: draft.add(found))
    return len(found)


async def link(shelf: Shelf, id: str, files: Sequence[File]) -> int:
    """Take files that stay where they are; how many."""
    entry = await shelf.get(id)
    mutable(entry)
    await drafts.change(entry.id, lambda draft: draft.link(list(files)))
    return len(files)


async def remove(shelf: Shelf, id: str, path: str) -> int:
    """Take away a file, a folder, or what fits a wildcard; how many files."""
    entry = await shelf.get(id)
    mutable(entry)
    there = await shelf.content(entry)

    def act(draft: Draft) -> int:
        known = (there.keys() - draft.removed) | draft.added.keys() | draft.links.keys()
        gone = {each for each in known if manifest.matches(each, path)}
        draft.forget(gone.__contains__)
        for each in gone & there.keys():
            draft.take_away(each)
        return len(gone)

    return await drafts.change(entry.id, act)


async def sync(shelf: Shelf, id: str, folder: str, inner: str, progress: Progress) -> Difference:
    """Have the dataset, or a folder in it, be what a folder of this machine is."""
    entry = await shelf.get(id)
    mutable(entry)
    store = await shelf.store()
    here = await asyncio.to_thread(scan, folder, folder=inner)
    current = await shelf.content(entry)
    there = {p: f for p, f in current.items() if not inner or manifest.matches(p, inner)}
    doubtful = [s for s in here if s.path in there and there[s.path].size == s.size]
    progress.expect(sum(each.size for each in doubtful))
    hashed = {f.path: f for f in await sending.hashes(store, doubtful, progress, there)}
    added = [s for s in here if s.path not in there]
    modified = [
        s
        for s in here
        if s.path in there and not (s.path in hashed and _alike(hashed[s.path], there[s.path]))
    ]
    removed = sorted(there.keys() - {each.path for each in here})

    def act(draft: Draft) -> None:
        # Whatever waits for its upload within that folder is decided anew.
        draft.forget(lambda path: not inner or manifest.matches(path, inner))
        draft.add([*added, *modified])
        for path in removed:
            draft.take_away(path)

    await drafts.change(entry.id, act)
    return Difference(_paths(added), _paths(modified), tuple(removed))


def _paths(sources: Sequence[Source]) -> tuple[str, ...]:
    return tuple(each.path for each in sources)


def _alike(one: File, other: File) -> bool:
    return one.same(other) and one.executable == other.executable


# -- sending ---------------------------------------------------------------------------------------


async def upload(shelf: Shelf, id: str, progress: Progress) -> dict[str, Any]:
    """Send what the draft on this machine has; how much that was.

    It may be interrupted at any moment, and goes on where it stopped when it is called again.
    """
    entry = await shelf.get(id)
    mutable(entry)
    draft = await asyncio.to_thread(drafts.read, entry.id)
    if draft.empty:
        return {"files": 0, "bytes": 0, "sent": 0, "objects": 0}
    sources = sorted(draft.added.values(), key=lambda each: each.path)
    progress.expect(sum(each.size for each in sources))
    current = await shelf.content(entry)
    known = Known()
    known.add(await _last(shelf, entry))
    known.add(current)
    store = await shelf.store()
    sent = await sending.send(store, sources, known, progress)
    files = {file.path: file for file in sent.files} | draft.links
    changed = {p: f for p, f in files.items() if p not in current or not _alike(f, current[p])}
    made = Manifest(changed, frozenset(draft.removed & current.keys()))
    digest = await shelf.keep(made)
    # In the order of time, and no two of a name: others may upload to it at this moment.
    key = f"{UPLOAD}{shelf.api.clock.now().isoformat()} {secrets.token_hex(4)}"
    about = {key: {"manifest": digest}}
    after = await (await shelf.registry()).change(entry.id, entries.NOTED, about=about, shown=False)
    if after.status != entries.CREATED and digest not in after.about["uploads"]:
        raise Conflict(f"the dataset {entry.title} was finalized meanwhile, without these files")
    await asyncio.to_thread(drafts.sent, entry.id, draft)
    return {
        "files": len(sources),
        "bytes": sum(each.size for each in sources),
        "sent": sent.bytes,
        "objects": sent.objects,
    }


async def _last(shelf: Shelf, entry: Entry) -> Files:
    """What the last version of this name has: most of it is probably in this one too."""
    others = await (await shelf.registry()).named(entry.project, entry.name)
    done = [e for e in others if e.status != entries.CREATED and e.id != entry.id]
    return await shelf.content(done[0]) if done else {}


# -- for good --------------------------------------------------------------------------------------


async def finalize(shelf: Shelf, id: str) -> Entry:
    """A draft is what it is from now on. Raises Refused while something waits for its upload."""
    entry = await shelf.get(id)
    mutable(entry)
    waiting = len(drafts.read(entry.id))
    if waiting:
        raise Refused(
            f"{waiting} changes of the dataset {entry.title} are not uploaded",
            hint="upload() them first, or finalize(auto_upload=True)",
        )
    return await _close(shelf, entry, await shelf.content(entry), await shelf.inherited(entry))


async def _close(shelf: Shelf, entry: Entry, files: Files, inherited: Files) -> Entry:
    store, registry = await shelf.store(), await shelf.registry()
    made = manifest.between(inherited, files)
    depth = 1 + max(
        [int((await registry.get(p)).about.get("depth", 0)) for p in entry.parents], default=-1
    )
    if entry.parents and (depth > _DEEPEST or 2 * len(made.files) > len(files)):
        made, depth = Manifest(dict(files), whole=True), 0
    # Somebody may have deleted a dataset that had them too.
    gone = made.objects() - await store.has(made.objects())
    if gone:
        raise Refused(
            f"{len(gone)} objects of the dataset {entry.title} are gone from the store",
            hint="add and upload its files again",
        )
    became = manifest.difference(inherited, files)
    about = {
        "manifest": await shelf.keep(made),
        "depth": depth,
        "uploads": uploads(entry),
        "files": len(files),
        "size": sum(each.size for each in files.values()),
        "hash": await asyncio.to_thread(manifest.content_hash, files.values()),
        "added": len(became.added),
        "modified": len(became.modified),
        "removed": len(became.removed),
    }
    return await registry.change(entry.id, entries.FINALIZED, about=about)


async def squash(
    shelf: Shelf, project: str, name: str, ids: Sequence[str], **options: Any
) -> Entry:
    """One version that has what several have, a later one before an earlier; nothing is sent."""
    if not ids:
        raise Usage("which datasets are to be squashed?")
    sources = [await shelf.get(each) for each in ids]
    for each in sources:
        finalized(each)
    files = Manifest().over([await shelf.content(each) for each in sources])
    registry = await shelf.registry()
    about = {"squashed": [each.id for each in sources]}
    entry = await registry.create(project, name, about=about, **options)
    return await _close(shelf, entry, files, {})


# -- what a version changes ------------------------------------------------------------------------


async def pending(shelf: Shelf, entry: Entry, *, hashed: bool) -> dict[str, File]:
    """The files of a dataset with those that wait on this machine for their upload."""
    files = await shelf.content(entry)
    if entry.status != entries.CREATED:
        return files
    draft = drafts.read(entry.id)
    sources = list(draft.added.values())
    if hashed:
        found = await sending.hashes(await shelf.store(), sources, Progress(), files)
    else:
        found = [File(s.path, s.size, "", executable=s.executable) for s in sources]
    kept = {p: f for p, f in files.items() if p not in draft.removed}
    return {**kept, **{f.path: f for f in found}, **draft.links}


async def difference(shelf: Shelf, id: str, other: str | None = None) -> Difference:
    """What is different from the parents, or from another dataset."""
    entry = await shelf.get(id)
    now = await pending(shelf, entry, hashed=True)
    if other is None:
        return manifest.difference(await shelf.inherited(entry), now)
    return manifest.difference(await shelf.content(await shelf.get(other)), now)


async def publish(shelf: Shelf, entry: Entry) -> Entry:
    """Raises Refused for a draft."""
    finalized(entry)
    return await (await shelf.registry()).change(entry.id, entries.PUBLISHED)
