"""Datasets on this machine: fetched once, and shared by everybody here who reads them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from clearflow import links
from clearflow.datasets import cache, fetching, mending, sending
from clearflow.datasets.progress import Progress
from clearflow.datasets.scan import Source
from clearflow.datasets.shelf import Shelf, finalized
from clearflow.errors import Refused, ServerError, Usage
from clearflow.words import manifest
from clearflow.words.entries import Entry
from clearflow.words.manifest import Files


async def local(
    shelf: Shelf,
    id: str,
    progress: Progress,
    *,
    part: int | None = None,
    parts: int | None = None,
    only: Sequence[str] | None = None,
) -> str:
    """The path of a read-only copy of a dataset, or of a share of it; made once on a machine.

    What it has in common with other versions here are hard links to these.
    """
    entry = await shelf.get(id)
    finalized(entry)
    folder = cache.top() / _name(entry, part, parts, only)
    async with cache.made(folder) as there:
        if not there:
            files = await _share(shelf, entry, part, parts, only)
            progress.expect(sum(each.size for each in files.values()))
            here = await _here(shelf, entry)
            partial = folder.with_name(folder.name + cache.PARTIAL)
            await _fetch(shelf, files, partial, progress, here=here)
            os.rename(partial, folder)
    if not there:
        await asyncio.to_thread(cache.tidy)
    return str(folder)


async def mutable(
    shelf: Shelf,
    id: str,
    target: str,
    progress: Progress,
    *,
    overwrite: bool = False,
    part: int | None = None,
    parts: int | None = None,
) -> str:
    """A copy of a dataset in a folder of one's own, to be changed there."""
    entry = await shelf.get(id)
    finalized(entry)
    folder = Path(target)
    await asyncio.to_thread(_make_room, folder, overwrite)
    files = await _share(shelf, entry, part, parts, None)
    progress.expect(sum(each.size for each in files.values()))
    cached = cache.top() / _name(entry, None, None, None)
    if cached.exists():
        await asyncio.to_thread(fetching.copied, cached, folder, files)
    else:
        await _fetch(shelf, files, folder, progress, writable=True)
    return str(folder)


def _make_room(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise Refused(f"{folder} is not empty", hint="overwrite=True replaces what is in it")
    shutil.rmtree(folder)


async def _share(
    shelf: Shelf,
    entry: Entry,
    part: int | None,
    parts: int | None,
    only: Sequence[str] | None,
) -> Files:
    files = manifest.chosen(await shelf.content(entry), only)
    if only is not None and not files:
        raise Usage(f"the dataset {entry.title} has none of these files: {', '.join(only)}")
    if part is None and parts is None:
        return files
    if part is None or parts is None or not 0 <= part < parts:
        raise Usage(f"part {part} of {parts} is no share of a dataset", hint="part=0, num_parts=4")
    return manifest.share(files, part, parts)


def _name(entry: Entry, part: int | None, parts: int | None, only: Sequence[str] | None) -> str:
    name = entry.id
    if part is not None:
        name += f"-{part}-of-{parts}"
    if only is not None:
        name += "-" + hashlib.sha256("\n".join(sorted(only)).encode()).hexdigest()[:16]
    return name


async def _here(shelf: Shelf, entry: Entry) -> dict[str, Path]:
    """Where contents are that whole copies of other versions on this machine have."""
    found: dict[str, Path] = {}
    others = await (await shelf.registry()).named(entry.project, entry.name)
    graph = await shelf.graph(entry)
    known = {each.id: each for each in others}
    for id in {*known, *graph} - {entry.id}:
        folder = cache.top() / id
        if folder.exists():
            other = known.get(id) or await (await shelf.registry()).get(id)
            files = [f for f in (await shelf.content(other)).values() if not f.link]
            found.update(fetching.paths_by_hash(folder, files))
    return found


async def _fetch(
    shelf: Shelf,
    files: Files,
    target: Path,
    progress: Progress,
    *,
    writable: bool = False,
    here: dict[str, Path] | None = None,
) -> None:
    store = await shelf.store()
    await fetching.fetch(store, files, target, progress, writable=writable, here=here)
    outside = [each for each in files.values() if each.link]
    got = await links.fetch([(each.link, target / each.path) for each in outside], store.place)
    for each in outside:
        if each.hash and got[each.link][1] != each.hash:
            raise ServerError(f"{each.link} is not what it was when the dataset took it")


# -- checking --------------------------------------------------------------------------------------


async def verify(
    shelf: Shelf,
    id: str,
    progress: Progress,
    folder: str | None = None,
    *,
    sizes: bool = False,
    repair: bool = False,
) -> dict[str, str]:
    """The files that are not what they should be, and why: in the store, or in a folder here.

    With `sizes` only these are compared. With `repair` what is wrong in the store is put there
    again from the folder, or from the copy that this machine has.
    """
    entry = await shelf.get(id)
    files = await shelf.content(entry)
    progress.expect(sum(each.size for each in files.values() if not each.link))
    if folder is None or repair:
        store = await shelf.store()
        bad = await fetching.broken(store, files, progress)
        if not repair:
            return bad
        source = Path(folder) if folder else cache.top() / entry.id
        mended = await mending.mend(store, files, bad, source)
        return {path: why for path, why in bad.items() if path not in mended}
    wrong: dict[str, str] = {}
    sources = []
    for file in files.values():
        place = Path(folder) / file.path
        if not place.is_file():
            wrong[file.path] = "missing"
        elif place.stat().st_size != file.size:
            wrong[file.path] = "another size"
        elif not sizes and not file.link:
            sources.append(Source(file.path, str(place), file.size, 0))
    for found in await sending.hashes(await shelf.store(), sources, progress, files):
        if found.hash != files[found.path].hash:
            wrong[found.path] = "corrupted"
    return dict(sorted(wrong.items()))
