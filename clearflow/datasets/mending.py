"""What is broken in the store is put there again, from a folder that has the files as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

from clearflow.errors import NotFound
from clearflow.store import Store
from clearflow.store.hashing import goes_by, sha256
from clearflow.words.manifest import File, Files, part_size


async def mend(store: Store, files: Files, wrong: Collection[str], folder: Path) -> list[str]:
    """Replace the objects of these files; the paths of those that are whole again.

    Nothing is replaced by what is not exactly what was stored.
    """
    packs: dict[str, list[File]] = {}
    parts: list[tuple[File, int]] = []
    for file in files.values():
        if file.link or not file.size:
            continue
        if not file.packed:
            parts += [(file, n) for n in range(len(file.objects)) if file.path in wrong]
        else:
            packs.setdefault(file.objects[0], []).append(file)
    broken = {files[path].objects[0] for path in wrong if files[path].packed}

    def act() -> list[str]:
        failed = {file.path for file, number in parts if not _part(store, file, number, folder)}
        for pack in broken:
            if not _pack(store, pack, packs[pack], folder):
                failed |= {file.path for file in packs[pack]}
        return sorted(set(wrong) - failed)

    return await asyncio.to_thread(act)


def _part(store: Store, file: File, number: int, folder: Path) -> bool:
    size = part_size(file.size)
    try:
        with (folder / file.path).open("rb") as source:
            source.seek(number * size)
            content = source.read(size)
    except OSError:
        return False
    if not goes_by(content, file.objects[number]):
        return False
    store.replace(file.objects[number], content)
    return True


def _pack(store: Store, pack: str, files: Sequence[File], folder: Path) -> bool:
    """What other versions have in it is taken from what is left of it."""
    try:
        content = bytearray(store.load(pack))
    except NotFound:
        content = bytearray()
    for file in files:
        try:
            piece = (folder / file.path).read_bytes()
        except OSError:
            continue
        if sha256(piece) == file.hash:
            content.extend(bytes(max(0, file.offset + file.size - len(content))))
            content[file.offset : file.offset + file.size] = piece
    if not goes_by(memoryview(content), pack):
        return False
    store.replace(pack, memoryview(content))
    return True
