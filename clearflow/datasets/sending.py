"""Files on their way into the store: each is read once, hashed, packed with others, and sent.

What the store has is not sent again: known files of the parents and of the last version, packs and
parts by their content. As the same files make the same packs, an interrupted upload goes on where
it stopped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clearflow.datasets.progress import Progress, Rooms
from clearflow.datasets.scan import Source
from clearflow.errors import Refused
from clearflow.store import Content, Store
from clearflow.store.hashing import WAYS, name_of, sha256
from clearflow.words.manifest import EMPTY, PACK, SMALL, File, Files, part_size, whole_hash


@dataclass
class Known:
    """Contents that the store has: where a small file lies, and which objects there are."""

    small: dict[str, File] = field(default_factory=dict)
    objects: set[str] = field(default_factory=set)

    def add(self, files: Files) -> None:
        for file in files.values():
            if file.link:
                continue
            if file.packed:
                self.small[file.hash] = file
            else:
                self.objects.update(file.objects)


@dataclass
class Sent:
    """What came of it: the files with their places, and how many bytes have travelled."""

    files: list[File]
    bytes: int
    objects: int


async def send(store: Store, sources: Sequence[Source], known: Known, progress: Progress) -> Sent:
    """Keep files in the store. Raises Refused for one that changes meanwhile."""
    sending = _Sending(store, known, progress)
    slices = _slices([s for s in sources if 0 < s.size <= SMALL])
    parts = [
        (source, start)
        for source in sources
        if source.size > SMALL
        for start in range(0, source.size, part_size(source.size))
    ]
    work: list[Any] = [*parts, *slices]
    await store.each(work, sending.work)
    files = [File(s.path, 0, EMPTY, executable=s.executable) for s in sources if s.size == 0]
    files += sending.small() + sending.large(s for s in sources if s.size > SMALL)
    return Sent(files, sending.bytes, sending.objects)


async def hashes(
    store: Store, sources: Sequence[Source], progress: Progress, like: Files | None = None
) -> list[File]:
    """What files would be in a dataset, without their places; nothing is sent.

    Those that are `like` known ones go by the same hash as these.
    """

    def act(source: Source) -> File:
        known = (like or {}).get(source.path)
        found: list[str] = []
        for way in WAYS if source.size > SMALL else (sha256,):
            found.append(_hashed(source, way))
            if known is None or found[-1] == known.hash:
                break
        progress.done(source.size)
        hash = known.hash if known is not None and known.hash in found else found[0]
        return File(source.path, source.size, hash, executable=source.executable)

    return await store.each(list(sources), act)


def _hashed(source: Source, way: Callable[[Content], str]) -> str:
    step = SMALL if source.size <= SMALL else part_size(source.size)
    made = []
    with open(source.file, "rb") as file:
        while content := file.read(step):
            made.append(way(content))
    return whole_hash(made) if made else EMPTY


class _Sending:
    """One upload, worked on by several threads."""

    def __init__(self, store: Store, known: Known, progress: Progress) -> None:
        self._store, self._known, self._progress = store, known, progress
        self.bytes = self.objects = 0
        self._lock, self._rooms = threading.Lock(), Rooms()
        self._small: list[File] = []
        self._seen: dict[str, bool] = {}
        self._parts: dict[tuple[str, int], str] = {}
        # Which of the files of a small content is packed, where that is, and the others.
        self._claimed: dict[str, Source] = {}
        self._packed: dict[str, File] = {}
        self._twins: list[tuple[Source, int, str]] = []

    def work(self, item: Any) -> None:
        if isinstance(item, tuple):
            self._part(*item)
        else:
            self._slice(item)

    def _slice(self, sources: Sequence[Source]) -> None:
        """Small files, read and put into one pack."""
        room, end = self._rooms.of(2 * PACK), 0
        new: list[tuple[Source, int, str, int]] = []
        known, claimed = self._known.small, self._claimed
        for source in sources:
            size = _read(source, room[end:])
            hash = sha256(room[end : end + size])
            if hash in known and self._there(*known[hash].objects):
                self._small.append(_placed(source, size, hash, known[hash]))
            elif not size:
                self._small.append(File(source.path, 0, EMPTY, executable=source.executable))
            elif claimed.setdefault(hash, source) is not source:
                self._twins.append((source, size, hash))
            else:
                new.append((source, size, hash, end))
                end += size
        if new:
            pack = room[:end]
            objects = (self._save(pack, name_of(pack)),)
            for source, size, hash, offset in new:
                file = File(source.path, size, hash, objects, offset, source.executable)
                self._packed[hash] = file
                self._small.append(file)
        self._progress.done(sum(source.size for source in sources))

    def _part(self, source: Source, start: int) -> None:
        size = min(part_size(source.size), source.size - start)
        handle = os.open(source.file, os.O_RDONLY)
        try:
            content = _read_all(handle, self._rooms.of(size), start)
        finally:
            os.close(handle)
        digest = name_of(content)
        if digest not in self._known.objects or not self._there(digest):
            self._save(content, digest)
        self._parts[source.path, start] = digest
        self._progress.done(len(content))

    def _there(self, *objects: str) -> bool:
        """Whether what another version has is in the store still."""
        for each in objects:
            if each not in self._seen:
                self._seen[each] = self._store.holds(each)
        return all(self._seen[each] for each in objects)

    def _save(self, content: Content, digest: str | None = None) -> str:
        digest, sent = self._store.save(content, digest)
        if sent:
            with self._lock:
                self.bytes += len(content)
                self.objects += 1
        return digest

    def small(self) -> list[File]:
        twins = [_placed(*twin, self._packed[twin[2]]) for twin in self._twins]
        return self._small + twins

    def large(self, sources: Iterable[Source]) -> list[File]:
        """Raises Refused for one that has changed since it was found."""
        found = []
        for source in sources:
            about = os.stat(source.file)
            if (about.st_size, about.st_mtime_ns) != (source.size, source.changed):
                raise Refused(f"{source.file} changes while it is stored")
            starts = range(0, source.size, part_size(source.size))
            parts = tuple(self._parts[source.path, start] for start in starts)
            hash = whole_hash(parts)
            found.append(File(source.path, source.size, hash, parts, 0, source.executable))
        return found


def _placed(source: Source, size: int, hash: str, there: File) -> File:
    """A small file whose content lies where another's does."""
    return File(source.path, size, hash, there.objects, there.offset, source.executable)


def _slices(sources: Sequence[Source]) -> list[list[Source]]:
    """Neighbours that make a pack together; the same for the same files, whoever works."""
    found: list[list[Source]] = []
    size = PACK
    for source in sources:
        if size + source.size > PACK:
            found.append([])
            size = 0
        found[-1].append(source)
        size += source.size
    return found


def _read(source: Source, room: memoryview) -> int:
    """All of a small file, whatever its size is by now; how many bytes.

    Raises Refused for one that is no small file any more.
    """
    size = source.size
    handle = os.open(source.file, os.O_RDONLY)
    try:
        done = os.readv(handle, [room[: size + 1]])
        if done != size:
            while done <= SMALL and (more := os.readv(handle, [room[done : SMALL + 1]])):
                done += more
    finally:
        os.close(handle)
    if done > SMALL or len(room) <= SMALL:
        raise Refused(f"{source.file} changes while it is stored")
    return done


def _read_all(handle: int, room: memoryview, start: int) -> memoryview:
    """What a file has there; less than the room when it has become shorter."""
    done = 0
    while done < len(room) and (more := os.preadv(handle, [room[done:]], start + done)):
        done += more
    return room[:done]
