"""Virtual environments of tasks: built once per recipe, shared, kept while they are useful.

    <home>/environments/<hash>/
        <random>/      a virtual environment, complete or not
        ready          names the complete one; its time is that of the last use
        building       locked by whoever builds
        in-use         locked (shared) by every task that runs in the environment

An environment is built where it stays, as its files hold their own path, and counts only once
`ready` names it. A builder that is killed leaves a folder that nobody is pointed to, which the
next build of this recipe removes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

from clearflow.environment import uv
from clearflow.environment.recipe import Recipe
from clearflow.errors import EnvironmentFailed

KEEP, KEEP_BYTES = 20, 20_000_000_000
_LOOK_AGAIN = 0.05
_JUST_USED = 60.0

Say = Callable[[str], None]


class Builder(Protocol):
    """Who fills the folder of an environment: uv on this machine, or uv in a container."""

    async def create(self, target: Path, python_version: str, home: Path, say: Say) -> None: ...

    async def install(self, target: Path, requirements: Path, home: Path, say: Say) -> None: ...

    def stands(self, python: Path) -> bool:
        """Whether the executable of a complete environment is still one."""


async def prepare(recipe: Recipe, home: Path, say: Say, builder: Builder = uv) -> Path:
    """The Python executable of an environment for this recipe, built if it is not there.

    When it is there nothing is started and nothing said. Whoever asks for a recipe that another
    process is building waits for it, and is told so. Raises EnvironmentFailed with the reason in
    one line, after the last words of uv have gone to `say`. Cancelling it ends the build.
    """
    folder = home / "environments" / recipe.hash
    if (python := _ready(folder)) and builder.stands(python):
        return python
    folder.mkdir(parents=True, exist_ok=True)
    async with _building(folder, recipe, say):
        if (python := _ready(folder)) and builder.stands(python):
            return python
        _sweep(folder)
        python = await _build(recipe, folder, home, say, builder)
    with contextlib.suppress(OSError):
        evict(home)
    return python


@contextlib.contextmanager
def lease(python: Path) -> Iterator[None]:
    """Keep the environment of this executable from being evicted inside the block.

    Does nothing for an executable that clearflow has not built. Raises EnvironmentFailed when the
    environment was evicted since `prepare` gave it.
    """
    folder = python.parent.parent.parent
    if not (folder / "in-use").exists():
        yield
        return
    with _lock_file(folder, "in-use") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if not os.path.lexists(python):
            raise EnvironmentFailed("the environment was evicted just before it was used")
        yield


def evict(home: Path, keep: int = KEEP, keep_bytes: int = KEEP_BYTES) -> list[Path]:
    """Remove environments, least recently used first, until the others are within the limits.

    Those in use, or asked for within the last minute, always stay. Returns the emptied folders.
    """
    used: list[tuple[float, int, Path]] = []
    for folder in (home / "environments").glob("*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            ready = folder / "ready"
            used.append((ready.stat().st_mtime, json.loads(ready.read_text())["bytes"], folder))
    used.sort(reverse=True)
    removed, size = [], 0
    for position, (last_use, its_size, folder) in enumerate(used):
        size += its_size
        too_much = position >= keep or size > keep_bytes
        if too_much and time.time() - last_use > _JUST_USED and _remove(folder):
            size -= its_size
            removed.append(folder)
    return removed


def _ready(folder: Path) -> Path | None:
    """The executable of the complete environment, its last use set to now."""
    marker = folder / "ready"
    try:
        python = folder / str(json.loads(marker.read_text())["folder"]) / "bin" / "python"
        os.utime(marker)
    except (OSError, ValueError, KeyError):
        return None
    return python


@contextlib.asynccontextmanager
async def _building(folder: Path, recipe: Recipe, say: Say) -> AsyncIterator[None]:
    told = False
    with _lock_file(folder, "building") as file:
        while not _try_lock(file.fileno()):
            if not told:
                told = True
                say(f"Waiting for another task that builds the same environment ({recipe})")
            await asyncio.sleep(_LOOK_AGAIN)
        yield


async def _build(recipe: Recipe, folder: Path, home: Path, say: Say, builder: Builder) -> Path:
    target = folder / secrets.token_hex(4)
    (folder / "in-use").touch()
    requirements = folder / "requirements.txt"
    requirements.write_text(recipe.text)
    say(f"Building the environment: {recipe}")
    try:
        await builder.create(target, recipe.python_version, home, say)
        await builder.install(target, requirements, home, say)
        content = {"folder": target.name, "bytes": await asyncio.to_thread(_size, target)}
        fresh = folder / f"ready.{target.name}"
        fresh.write_text(json.dumps(content))
        fresh.rename(folder / "ready")
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise EnvironmentFailed(f"the environment could not be built: {error}") from error
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target / "bin" / "python"


def _sweep(folder: Path) -> None:
    """Remove what killed builders have left; for the holder of the lock on `building`."""
    with contextlib.suppress(OSError), _lock_file(folder, "in-use") as file:
        if not _try_lock(file.fileno()):
            return
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith("ready"):
                path.unlink()


def _remove(folder: Path) -> bool:
    """Empty the folder of one recipe, unless somebody uses it or builds it.

    The lock files stay: a lock on a file that others no longer find would keep nobody out.
    """
    with _lock_file(folder, "building") as file:
        if not _try_lock(file.fileno()):
            return False
        _sweep(folder)
        return not (folder / "ready").exists()


def _lock_file(folder: Path, name: str) -> IO[bytes]:
    return open(folder / name, "ab")


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(folder: Path) -> int:
    """Bytes below a folder; files shared with uv's cache count in full."""
    return sum(
        os.lstat(os.path.join(path, name)).st_size
        for path, _, names in os.walk(folder)
        for name in names
    )
