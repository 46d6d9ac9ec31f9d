"""The copies of datasets on this machine: who uses them, and which go when there are too many."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from clearflow.settings import settings

PARTIAL = ".partial"
_LOCK, _USED = ".lock", ".used"
_STALE = 86_400.0
"""Seconds after which nobody goes on with what was interrupted."""

# What this process has handed out is in use until it ends: the descriptors of the locked files.
_held: dict[Path, int] = {}


def top() -> Path:
    return settings().home_path / "datasets"


@contextlib.asynccontextmanager
async def made(folder: Path) -> AsyncIterator[bool]:
    """The folder is in use by this process from now on; False when it has to be made here.

    One at a time on this machine makes a copy; the others wait for it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    used = os.open(_beside(folder, _USED), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        await _lock(used, fcntl.LOCK_SH)
        if _there(folder):
            yield True
        else:
            with _beside(folder, _LOCK).open("a") as lock:
                await _lock(lock, fcntl.LOCK_EX)
                yield _there(folder)
        os.utime(folder)
    except BaseException:
        os.close(used)
        raise
    before = _held.get(folder)
    _held[folder] = used
    if before is not None:
        os.close(before)


def _there(folder: Path) -> bool:
    return folder.exists()


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(folder.name.removesuffix(PARTIAL) + what)


async def _lock(lock: IO[str] | int, how: int) -> None:
    while True:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            await asyncio.sleep(0.2)


def tidy() -> list[str]:
    """Have the copies take no more room than the setting says: the least recently used ones go.

    Never one that somebody uses. What is left of interrupted downloads goes too. The names.
    """
    limit, gone = settings().dataset_cache, []
    copies = [each for each in top().glob("*") if each.is_dir()]
    for each in copies:
        if each.name.endswith(PARTIAL) and time.time() - each.stat().st_mtime > _STALE:
            gone += _removed(each, _LOCK)
    if not limit:
        return gone
    copies = [each for each in copies if not each.name.endswith(PARTIAL)]
    inside = {each: dict(_files(each)) for each in copies}
    # Versions share files, which take room as long as one of them is there.
    sharers = Counter(inode for files in inside.values() for inode in files)
    sizes = {inode: size for files in inside.values() for inode, size in files.items()}
    total = sum(sizes.values())
    for each in sorted(copies, key=lambda copy: copy.stat().st_mtime):
        if total <= limit:
            break
        if _removed(each, _USED):
            gone.append(each.name)
            sharers.subtract(inside[each].keys())
            total -= sum(sizes[inode] for inode in inside[each] if not sharers[inode])
    return gone


def _removed(folder: Path, what: str) -> list[str]:
    """The name of the folder, which is gone; nothing for one that is in use."""
    with _beside(folder, what).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name]


def _files(folder: Path) -> Iterator[tuple[int, int]]:
    for path, _, names in os.walk(folder):
        for name in names:
            about = os.lstat(f"{path}/{name}")
            yield about.st_ino, about.st_size


def forget(id: str) -> None:
    """Delete what this machine has of a dataset."""
    for each in top().glob(f"{id}*"):
        if each.is_dir():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink(missing_ok=True)
