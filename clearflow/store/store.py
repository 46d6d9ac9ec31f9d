"""The store: files by the hash of their content, and small records by name, wherever fsspec goes.

objects/ab/cdef…    what is in a file; written under another name first, never changed
records/NAME        written once; who comes second is told so
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from clearflow.errors import ClearflowError, NotFound, Refused, ServerError
from clearflow.settings import settings
from clearflow.store import kernel
from clearflow.store.records import Records
from clearflow.store.streams import (
    CHUNK,
    PARTIAL,
    Content,
    Progress,
    hash_of,
    protocols,
    quiet,
    resumed,
    through,
    tidied,
)
from clearflow.store.threads import several
from clearflow.words.places import DEFAULT_FOLDER, Place

T = TypeVar("T")
_WIDTH = 16  # transfers at once
_LOCAL_WIDTH = max(2, min(8, os.cpu_count() or 1))
_MARK = "clearflow-store"


class Store(Records):
    """A store at a place. Raises Refused, in one line, where it cannot be reached or written."""

    def __init__(self, place: Place) -> None:
        import fsspec

        self.place = place
        url = place.url or str(settings().home_path / DEFAULT_FOLDER)
        try:
            fs, root = fsspec.core.url_to_fs(url, **place.options)
        except (ImportError, ValueError) as error:
            raise Refused(
                f"the store {url} cannot be used: {' '.join(str(error).split())}",
                hint="the extras aws, gcp and azure of clearflow bring s3://, gs:// and az://",
            ) from None
        self._fs: Any = fs
        self._root = str(root).rstrip("/")
        self.url = url
        self.local = Path(self._root) if "file" in protocols(fs) else None
        self.width = _WIDTH if self.local is None else _LOCAL_WIDTH
        """How many transfers there are at once."""
        self._folders: set[str] = set()
        self._lock = threading.Lock()
        self._writing: dict[str, threading.Lock] = {}

    # -- being a store -------------------------------------------------------------------------

    async def check(self) -> None:
        """Raises Refused when this is not the store that was named, or it cannot be read."""
        if not self.place.shared:
            return
        found = await self._in_thread(self._read, _MARK)
        if found is None or found.decode() != self.place.mark:
            where = f", a folder of {self.place.host}," if self.local and self.place.host else ""
            raise Refused(
                f"the store {self.url}{where} is not reached from this machine",
                hint="`clearflow store set URL` names one that all machines reach",
            )

    async def found(self) -> str:
        """Make it a store, if it is none yet; its mark. Raises Refused where one cannot write."""

        def act() -> str:
            there = self._read(_MARK)
            if there is not None:
                return there.decode()
            mark = secrets.token_hex(8)
            self._write(_MARK, mark.encode())
            return mark

        return await self._in_thread(act)

    # -- objects -------------------------------------------------------------------------------

    async def put(self, file: Path, progress: Progress = quiet) -> str:
        """Keep a file; the hash of its content. Nothing is sent when it is there."""
        (digest,) = await self.put_many([file], progress)
        return digest

    async def put_many(self, files: Sequence[Path], progress: Progress = quiet) -> list[str]:
        """Keep files, several at once; their hashes, in order."""
        return await self.each(files, lambda file: self._put(file, progress))

    async def put_bytes(self, content: bytes) -> str:
        """Keep some bytes; their hash."""
        return (await self._in_thread(self.save, content))[0]

    async def get_bytes(self, digest: str) -> bytes:
        """Fetch a small object. Raises as `get` does."""
        content = bytes(await self._in_thread(self.load, digest))
        if hashlib.sha256(content).hexdigest() != digest:
            raise ServerError(f"the object {digest[:12]}… in {self.url} is not what was stored")
        return content

    def save(self, content: Content, digest: str | None = None) -> tuple[str, bool]:
        """Keep some bytes: their hash, and whether they had to be sent. For threads of `each`."""
        digest = digest or hashlib.sha256(content).hexdigest()
        path = self._object(digest)
        if self._holds(path, len(content)):
            return digest, False
        self._replace(path, content)
        return digest, True

    def holds(self, digest: str) -> bool:
        """Whether it is there. For threads of `each`."""
        return bool(self._fs.exists(self._object(digest)))

    def replace(self, digest: str, content: Content) -> None:
        """Keep some bytes, whatever is kept under their hash. For threads."""
        self._replace(self._object(digest), content)

    def take(self, source: int, start: int, size: int) -> tuple[str, bool] | None:
        """Keep a part of an open file as `save` does; None where it has to be read first."""
        if self.local is None:
            return None
        partial = f"{self._root}/objects/{secrets.token_hex(8)}{PARTIAL}"
        self._folder_of(partial)
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not kernel.copied(source, handle, size, start, 0):
                return None
            digest = kernel.name_of(handle, size)
            path = self._object(digest)
            if self._holds(path, size):
                return digest, False
            self._folder_of(path)
            os.rename(partial, path)
            return digest, True
        finally:
            os.close(handle)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)

    def give(self, digest: str, target: int, size: int, at: int) -> bool:
        """Copy an object into an open file, unchecked; False where it has to be loaded."""
        if self.local is None:
            return False
        try:
            source = os.open(self._object(digest), os.O_RDONLY)
        except FileNotFoundError:
            raise NotFound(f"the store {self.url} holds no object {digest[:12]}…") from None
        try:
            return kernel.copied(source, target, size, 0, at)
        finally:
            os.close(source)

    def _folder_of(self, path: str) -> None:
        folder = os.path.dirname(path)
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)

    def _holds(self, path: str, size: int) -> bool:
        """Whether it is there; what a machine without power has cut off is not."""
        if self.local is None:
            return bool(self._fs.exists(path))
        try:
            there = os.stat(path).st_size == size
            if there:
                os.utime(path)  # somebody counts on it from now on
            return there
        except FileNotFoundError:
            return False

    def load(
        self, digest: str, start: int = 0, end: int | None = None, room: memoryview | None = None
    ) -> Content:
        """Some bytes of an object, unchecked; in this room, if it is large enough.

        For threads of `each`. Raises NotFound.
        """
        path = self._object(digest)
        try:
            if self.local is None:
                asked = {} if start == 0 and end is None else {"start": start, "end": end}
                return bytes(self._fs.cat_file(path, **asked))
            with open(path, "rb", buffering=0) as file:
                file.seek(start)
                if room is not None and os.fstat(file.fileno()).st_size <= len(room):
                    return room[: file.readinto(room)]
                return file.read() if end is None else file.read(end - start)
        except FileNotFoundError:
            raise NotFound(f"the store {self.url} holds no object {digest[:12]}…") from None

    async def get(self, digest: str, target: Path, progress: Progress = quiet) -> None:
        """Fetch a file. Raises NotFound, and ServerError when its content is not what it was."""
        await self.get_many([(digest, target)], progress)

    async def get_many(
        self, wanted: Iterable[tuple[str, Path]], progress: Progress = quiet
    ) -> None:
        """Fetch files, several at once. What is there with this content is not fetched again."""
        await self.each(list(wanted), lambda each: self._get(each[0], each[1], progress))

    async def has(self, digests: Iterable[str]) -> set[str]:
        """Which of these are kept."""

        def there(digest: str) -> str | None:
            return digest if self._fs.exists(self._object(digest)) else None

        return {d for d in await self.each(list(digests), there) if d is not None}

    async def older(self, digests: Iterable[str], seconds: float) -> dict[str, int]:
        """The sizes of those that nobody has stored, or found there, for so long."""
        until = datetime.now(UTC) - timedelta(seconds=seconds)

        def look(digest: str) -> tuple[str, int] | None:
            path = self._object(digest)
            try:
                changed = self._fs.modified(path)
                return None if changed > until else (digest, int(self._fs.size(path)))
            except (FileNotFoundError, RuntimeError):  # gone, or of a store that tells no times
                return None

        found = await self.each(sorted(digests), look)
        return dict(each for each in found if each is not None)

    async def tidy(self, seconds: float) -> None:
        """Delete what was being written so long ago, and never was; a folder's only."""
        if self.local is not None:
            await self._in_thread(tidied, self.local, seconds)

    async def delete(self, digests: Iterable[str]) -> None:
        """Keep these no longer; those that are gone already are fine."""

        def act(digest: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._object(digest))

        await self.each(list(digests), act)

    def _object(self, digest: str) -> str:
        return f"{self._root}/objects/{digest[:2]}/{digest[2:]}"

    def _put(self, file: Path, progress: Progress) -> str:
        if self.local is not None:
            return self._copy_in(file, progress)
        digest = hash_of(file)
        # Two files of one content at once: the second finds what the first has written.
        with self._lock:
            writing = self._writing.setdefault(digest, threading.Lock())
        with writing:
            self._send(file, digest, progress)
        return digest

    def _send(self, file: Path, digest: str, progress: Progress) -> None:
        path = self._object(digest)
        if self._fs.exists(path):
            progress(file.stat().st_size)
            return
        with file.open("rb") as source, self._fs.open(path, "wb") as target:
            checked = through(source, target.write, progress)
            if checked != digest:
                # What is closed now would be kept under a wrong name.
                with contextlib.suppress(AttributeError, OSError):
                    target.discard()
                self._fs.rm_file(path)
                raise Refused(f"{file} changes while it is stored")

    def _copy_in(self, file: Path, progress: Progress) -> str:
        """Copy while the hash is made, so that the file is read once."""
        assert self.local is not None
        incoming = self.local / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        size = file.stat().st_size
        if size <= CHUNK:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            path = Path(self._object(digest))
            if not self._holds(str(path), size):
                self._replace(str(path), content)
            progress(size)
            return digest
        partial = incoming / secrets.token_hex(8)
        try:
            with file.open("rb") as source, partial.open("wb") as target:
                digest = through(source, target.write, progress)
            path = Path(self._object(digest))
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial, path)
            return digest
        finally:
            partial.unlink(missing_ok=True)

    def _get(self, digest: str, target: Path, progress: Progress) -> None:
        partial = target.with_name(target.name + PARTIAL)
        made = hashlib.sha256()
        try:
            with self._fs.open(self._object(digest), "rb") as source:
                done = resumed(partial, made, source)
                progress(done)
                with partial.open("ab") as file:
                    through(source, file.write, progress, made)
        except FileNotFoundError:
            partial.unlink(missing_ok=True)
            raise NotFound(f"the store {self.url} holds no object {digest[:12]}…") from None
        if made.hexdigest() != digest:
            partial.unlink()
            raise ServerError(f"the object {digest[:12]}… in {self.url} is not what was stored")
        os.replace(partial, target)

    # -- bytes ---------------------------------------------------------------------------------

    def _read(self, name: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        self._replace(f"{self._root}/{name}", content)

    def _create(self, path: str, content: bytes) -> None:
        """Write all of it, where there is nothing; of two at once one raises FileExistsError."""
        if self.local is None:
            self._fs.pipe_file(path, content, mode="create")
            return
        partial = f"{path}.{secrets.token_hex(4)}{PARTIAL}"
        self._replace(partial, content)
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with open(path, "xb") as file:
                file.write(content)
        finally:
            os.unlink(partial)

    def _replace(self, path: str, content: Content) -> None:
        """Write all of it or nothing."""
        if self.local is None:
            self._fs.pipe_file(path, bytes(content))
            return
        self._folder_of(path)
        partial = f"{path}.{secrets.token_hex(4)}{PARTIAL}"
        with open(partial, "wb", buffering=0) as file:
            for start in range(0, len(content), kernel.SLICE):
                file.write(content[start : start + kernel.SLICE])
        os.replace(partial, path)

    # -- threads -------------------------------------------------------------------------------

    async def _in_thread(self, act: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(self._told, act, *arguments)

    def _told(self, act: Callable[..., T], *arguments: Any) -> T:
        """What cannot be reached or written is said in one line."""
        try:
            return act(*arguments)
        except ClearflowError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise Refused(
                f"the store {self.url} cannot be used: {said}",
                hint="`clearflow store show` says where it is",
            ) from error

    async def each(self, items: Sequence[Any], act: Callable[[Any], T]) -> list[T]:
        """Do it for each, several at once in threads; the first error ends it."""
        return await several(items, partial(self._told, act), max(1, self.width))
