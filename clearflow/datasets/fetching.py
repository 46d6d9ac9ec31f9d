"""Files on their way out of the store: in parallel, each checked by its hash.

What lies at the target already, because an earlier attempt was interrupted, is checked and kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearflow.datasets.progress import Progress, Rooms
from clearflow.errors import ClearflowError, NotFound, Refused, ServerError
from clearflow.store import Content, Store, kernel
from clearflow.store.hashing import goes_by, sha256
from clearflow.words.manifest import PACK, File, Files, part_size

_GAP = 1 << 16
"""Bytes between two files of a pack that are read along rather than asked for apart."""


@dataclass(frozen=True)
class _Stretch:
    """Neighbours in a pack, fetched at once."""

    object: str
    files: tuple[File, ...]

    @property
    def start(self) -> int:
        return self.files[0].offset

    @property
    def end(self) -> int:
        return max(file.offset + file.size for file in self.files)


@dataclass(frozen=True)
class _Part:
    """A part of a large file."""

    file: File
    number: int

    @property
    def object(self) -> str:
        return self.file.objects[self.number]

    @property
    def start(self) -> int:
        return self.number * part_size(self.file.size)

    @property
    def size(self) -> int:
        return min(part_size(self.file.size), self.file.size - self.start)


async def fetch(
    store: Store,
    files: Files,
    target: Path,
    progress: Progress,
    *,
    writable: bool = False,
    here: Mapping[str, Path] | None = None,
) -> None:
    """Have these files at the target; those of a content that is `here` are links to it.

    Without `writable` they are read-only. Raises NotFound for what the store holds no more, and
    ServerError for what is not what was stored.
    """
    begun = _begun(target, files)
    known = here or {}
    wanted: list[File] = []
    for file in files.values():
        place = known.get(file.hash) if file.size else None
        if place is not None and _linked(place, target / file.path, file):
            progress.done(file.size)
        else:
            wanted.append(file)
    fetching = _Fetching(store, target, progress, writable, begun)
    small = [f for f in wanted if f.packed and not f.link]
    large = [f for f in wanted if not f.packed and not f.link]
    work: list[Any] = [_Part(f, n) for f in large for n in range(len(f.objects))]
    try:
        await store.each([*work, *_stretches(f for f in small if f.size)], fetching.work)
    finally:
        fetching.close()
    fetching.finish([*large, *(f for f in small if not f.size)])


class _Fetching:
    """One download, worked on by several threads."""

    def __init__(
        self, store: Store, target: Path, progress: Progress, writable: bool, begun: bool
    ) -> None:
        self._store, self._top, self._progress = store, str(target), progress
        self._writable, self._begun, self._rooms = writable, begun, Rooms()
        # Two who write at once into one file keep two processors busy waiting for each other.
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._handles: dict[str, tuple[int, int]] = {}

    def work(self, item: Any) -> None:
        if isinstance(item, _Part):
            self._part(item)
        else:
            self._stretch(item)

    def _stretch(self, stretch: _Stretch) -> None:
        files = stretch.files
        if self._begun:
            files = tuple(f for f in files if not self._there(f))
        if files:
            content = self._store.load(stretch.object, stretch.start, stretch.end)
            start = stretch.start
            for file in files:
                piece = content[file.offset - start : file.offset - start + file.size]
                if sha256(piece) != file.hash:
                    raise _wrong(self._store, file)
                self._write(file, piece)
        self._progress.done(sum(file.size for file in stretch.files))

    def _there(self, file: File) -> bool:
        try:
            content = Path(self._top, file.path).read_bytes()
        except OSError:
            return False
        if sha256(content) == file.hash:
            return True
        os.unlink(f"{self._top}/{file.path}")
        return False

    def _write(self, file: File, content: Content) -> None:
        handle = os.open(
            f"{self._top}/{file.path}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self._mode(file)
        )
        try:
            written = os.write(handle, content) if content else 0
            while written < len(content):
                written += os.write(handle, content[written:])
        finally:
            os.close(handle)

    def _mode(self, file: File) -> int:
        """With the write bits of whoever it is for; the umask takes what it takes."""
        return (
            (0o777 if file.executable else 0o666)
            if self._writable
            else (0o555 if file.executable else 0o444)
        )

    def _part(self, part: _Part) -> None:
        handle = self._opened(part.file)
        try:
            if not (self._begun and _holds(handle, part)):
                with self._turn:
                    copied = self._store.give(part.object, handle, part.size, part.start)
                if not copied:
                    self._load(handle, part)
                elif not kernel.goes_by(handle, part.start, part.size, part.object):
                    raise _wrong(self._store, part.file)
        finally:
            self._closed(part.file)
        self._progress.done(part.size)

    def _load(self, handle: int, part: _Part) -> None:
        content = self._store.load(part.object, room=self._rooms.of(part.size))
        if len(content) != part.size or not goes_by(content, part.object):
            raise _wrong(self._store, part.file)
        with self._turn:
            _put(handle, content, part.start)

    def _opened(self, file: File) -> int:
        """A large file, which stays open until the last of its parts is there.

        The file system would tidy up after each part, for longer than writing it takes.
        """
        with self._lock:
            if file.path not in self._handles:
                path = f"{self._top}/{file.path}"
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                self._handles[file.path] = (handle, len(file.objects))
            return self._handles[file.path][0]

    def _closed(self, file: File) -> None:
        with self._lock:
            handle, left = self._handles[file.path]
            self._handles[file.path] = (handle, left - 1)
            if left == 1:
                os.close(handle)
                del self._handles[file.path]

    def close(self) -> None:
        """What was not completed is open still."""
        for handle, _ in self._handles.values():
            os.close(handle)

    def finish(self, files: Iterable[File]) -> None:
        """Large files get their modes when they are complete, empty ones are made."""
        umask = os.umask(0)
        os.umask(umask)
        for file in files:
            if not file.size:
                self._write(file, b"")
            else:
                os.truncate(f"{self._top}/{file.path}", file.size)
                os.chmod(f"{self._top}/{file.path}", self._mode(file) & ~umask)


async def broken(store: Store, files: Files, progress: Progress) -> dict[str, str]:
    """The files whose content in the store is gone or is not what it was, and why."""
    found: dict[str, str] = {}
    stored = [f for f in files.values() if f.size and not f.link]
    work: list[Any] = [_Part(f, n) for f in stored if not f.packed for n in range(len(f.objects))]

    def look(item: Any) -> None:
        files = (item.file,) if isinstance(item, _Part) else item.files
        try:
            whole = isinstance(item, _Part)
            content = store.load(item.object, *(() if whole else (item.start, item.end)))
        except NotFound:
            found.update((file.path, "missing") for file in files)
            return
        except ClearflowError as error:
            found.update((file.path, error.message) for file in files)
            return
        if isinstance(item, _Part):
            if not goes_by(content, item.object):
                found[item.file.path] = "corrupted"
            progress.done(item.size)
            return
        for file in files:
            begin = file.offset - item.start
            if sha256(content[begin : begin + file.size]) != file.hash:
                found[file.path] = "corrupted"
            progress.done(file.size)

    await store.each([*work, *_stretches(f for f in stored if f.packed)], look)
    return dict(sorted(found.items()))


def copied(source: Path, target: Path, files: Files) -> None:
    """Copy files that are on this machine into another folder, to be changed there."""
    _folders(target, files)
    for file in files.values():
        place = target / file.path
        shutil.copyfile(source / file.path, place)
        if file.executable:
            place.chmod(0o755)


def _stretches(files: Iterable[File]) -> list[_Stretch]:
    """Small files by what is fetched at once."""
    packs: dict[str, list[File]] = {}
    for file in files:
        packs.setdefault(file.objects[0], []).append(file)
    found = []
    for pack, inside in packs.items():
        inside.sort(key=lambda each: each.offset)
        run: list[File] = []
        end = start = 0
        for file in inside:
            far = file.offset - end > _GAP or file.offset + file.size - start > PACK
            if run and far:
                found.append(_Stretch(pack, tuple(run)))
                run = []
            if not run:
                start = end = file.offset
            run.append(file)
            end = max(end, file.offset + file.size)
        found.append(_Stretch(pack, tuple(run)))
    return found


def _begun(target: Path, files: Files) -> bool:
    """Make the folders; whether an earlier attempt has left something there."""
    begun = target.exists()
    _folders(target, files)
    if begun:
        for file in files.values():
            if not file.packed:
                with contextlib.suppress(OSError):
                    (target / file.path).chmod(0o600)
    return begun


def _folders(target: Path, files: Files) -> None:
    """Make the folders. Raises Refused for a path that would leave the target."""
    target.mkdir(parents=True, exist_ok=True)
    for folder in {path.rpartition("/")[0] for path in files}:
        if folder.startswith("/") or ".." in folder.split("/"):
            raise Refused(f"the dataset names a file outside of its folder: {folder}")
        if folder:
            (target / folder).mkdir(parents=True, exist_ok=True)


def _linked(source: Path, target: Path, file: File) -> bool:
    """Whether the target is a link to that file now, which has to look as it should."""
    try:
        about = os.stat(source)
        if about.st_size != file.size or bool(about.st_mode & 0o100) != file.executable:
            return False
        if os.path.lexists(target):
            os.unlink(target)
        os.link(source, target)
    except OSError:
        return False
    return True


def _holds(handle: int, part: _Part) -> bool:
    content = os.pread(handle, part.size, part.start)
    return len(content) == part.size and goes_by(content, part.object)


def _put(handle: int, content: Content, start: int) -> None:
    written = 0
    while written < len(content):
        piece = content[written : written + kernel.SLICE]
        written += os.pwrite(handle, piece, start + written)


def _wrong(store: Store, file: File) -> ServerError:
    return ServerError(
        f"{file.path} in the store {store.url} is not what was stored",
        hint="`clearflow dataset verify` lists all that is wrong",
    )


def paths_by_hash(folder: Path, files: Sequence[File]) -> dict[str, Path]:
    """Where contents are in a folder that holds these files."""
    return {file.hash: folder / file.path for file in files}
