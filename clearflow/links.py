"""Files that lie elsewhere, wherever fsspec goes: what datasets name, what tasks keep there."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from clearflow.errors import ClearflowError, NotFound, Refused
from clearflow.words.places import Place

_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Found:
    """A file that is there; `name` is its path within what was asked for."""

    url: str
    name: str
    size: int


async def find(
    url: str, wildcards: Sequence[str], recursive: bool, place: Place | None = None
) -> list[Found]:
    """The file at an address, or those in a folder there. Raises NotFound and Refused."""

    def act() -> list[Found]:
        fs, top = _opened(url, place)
        if not fs.exists(top):
            raise NotFound(f"there is nothing at {url}")
        if not fs.isdir(top):
            return [Found(url, top.rpartition("/")[2], int(fs.info(top).get("size") or 0))]
        found = fs.find(top, maxdepth=None if recursive else 1, detail=True)
        base = str(top).rstrip("/") + "/"
        files = [
            Found(_address(fs, url, path), path.removeprefix(base), int(about.get("size") or 0))
            for path, about in sorted(found.items())
        ]
        return [f for f in files if not wildcards or any(_fits(f.name, w) for w in wildcards)]

    return await asyncio.to_thread(_told, url, act)


async def fetch(
    wanted: Sequence[tuple[str, Path]], place: Place | None = None
) -> dict[str, tuple[int, str]]:
    """Fetch files, one after the other; their sizes and hashes by their addresses."""

    def act(url: str, target: Path) -> tuple[int, str]:
        fs, path = _opened(url, place)
        made, size = hashlib.sha256(), 0
        target.parent.mkdir(parents=True, exist_ok=True)
        with fs.open(path, "rb") as source, target.open("wb") as file:
            while chunk := source.read(_CHUNK):
                made.update(chunk)
                file.write(chunk)
                size += len(chunk)
        return size, made.hexdigest()

    found = {}
    for url, target in wanted:
        found[url] = await asyncio.to_thread(_told, url, act, url, target)
    return found


async def send(source: Path, url: str, place: Place | None = None) -> None:
    """Write a file to an address; nothing of it stands there before all of it does.

    Raises Refused.
    """

    def act() -> None:
        fs, path = _opened(url, place)
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        part = f"{path}.{secrets.token_hex(4)}.partial"
        fs.put_file(str(source), part)
        fs.mv(part, path)

    await asyncio.to_thread(_told, url, act)


async def check(url: str, place: Place | None = None) -> None:
    """Raises Refused, in one line, for an address where nothing can be written."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe"
        probe.write_bytes(b"")
        where = f"{url.rstrip('/')}/.clearflow-{secrets.token_hex(4)}"
        await send(probe, where, place)

        def act() -> None:
            fs, path = _opened(where, place)
            fs.rm_file(path)

        await asyncio.to_thread(_told, url, act)


def _told(url: str, act: Any, *arguments: Any) -> Any:
    try:
        return act(*arguments)
    except ClearflowError:
        raise
    except FileNotFoundError:
        raise NotFound(f"there is nothing at {url}") from None
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refused(f"{url} cannot be used: {said}") from error


def _opened(url: str, place: Place | None) -> tuple[Any, str]:
    """The credentials of the store are those of its kind of address."""
    import fsspec

    same = place is not None and "://" in url and url.split("://")[0] == place.url.split("://")[0]
    options: Mapping[str, Any] = place.options if place is not None and same else {}
    fs, path = fsspec.core.url_to_fs(url, **options)
    return fs, str(path)


def _address(fs: Any, url: str, path: str) -> str:
    return str(fs.unstrip_protocol(path)) if "://" in url else path


def _fits(name: str, wildcard: str) -> bool:
    return fnmatchcase(name.rpartition("/")[2], wildcard) or fnmatchcase(name, wildcard)
