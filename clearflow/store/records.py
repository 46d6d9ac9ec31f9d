"""Small records by name, beside the objects of a store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from clearflow.errors import Conflict, NotFound
from clearflow.store.streams import PARTIAL

T = TypeVar("T")


class Records:
    """The part of a store that is about records."""

    url: str
    _fs: Any
    _root: str
    _folders: set[str]

    if TYPE_CHECKING:

        def _read(self, name: str) -> bytes | None: ...

        def _create(self, path: str, content: bytes) -> None: ...

        async def _in_thread(self, act: Callable[..., T], *arguments: Any) -> T: ...

    async def write_record(self, name: str, content: bytes) -> None:
        """Write a record that is never changed. Raises Conflict when there is one of this name."""

        def act() -> None:
            try:
                self._create(f"{self._root}/records/{name}", content)
            except FileExistsError:
                raise Conflict(f"there is a record {name} already") from None

        await self._in_thread(act)

    async def read_record(self, name: str) -> bytes:
        """Raises NotFound."""
        found = await self._in_thread(self._read, f"records/{name}")
        if found is None:
            raise NotFound(f"there is no record {name} in the store {self.url}")
        return found

    async def records(self, folder: str) -> dict[str, bytes]:
        """All records below a folder, by their names within it, in the order of these."""

        def act() -> dict[str, bytes]:
            top = f"{self._root}/records/{folder.strip('/')}"
            # Others may have written since it was last looked at.
            self._fs.invalidate_cache()
            try:
                paths = sorted(self._fs.find(top))
            except FileNotFoundError:
                return {}
            wanted = [p for p in paths if not p.endswith(PARTIAL)]
            found = self._fs.cat(wanted) if wanted else {}
            return {p[len(top) + 1 :]: found[p] for p in wanted if p in found}

        return await self._in_thread(act)

    async def delete_records(self, folder: str) -> None:
        """Delete all records below a folder."""

        def act() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(f"{self._root}/records/{folder.strip('/')}", recursive=True)
            self._folders.clear()

        await self._in_thread(act)
