"""The files of a folder on this machine, as a dataset would have them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from clearflow.errors import NotFound, Usage


@dataclass(frozen=True, slots=True)
class Source:
    """A file here that is to be at `path` in a dataset."""

    path: str
    file: str
    size: int
    changed: int
    executable: bool = False


def scan(
    top: str,
    *,
    wildcards: Sequence[str] = (),
    base: str | None = None,
    folder: str = "",
    recursive: bool = True,
) -> list[Source]:
    """What lies at a place here: a file, or everything in a folder.

    Paths are relative to the folder, or to `base`, and below `folder` of the dataset. Links are
    followed to files, and not to folders. Raises NotFound and Usage.
    """
    inner = folder.strip("/")
    if ".." in inner.split("/"):
        raise Usage(f"{folder!r} is no folder of a dataset")
    if not os.path.isdir(top):
        if not os.path.exists(top):
            raise NotFound(f"there is no {top}")
        start = base or os.path.dirname(top)
        entries: Iterator[tuple[str, os.stat_result]] = iter([(top, os.stat(top))])
    else:
        start = base or top
        entries = _walk(top, recursive)
    found = []
    cut = len(start.rstrip("/")) + 1
    for file, about in entries:
        name = os.path.relpath(file, start) if base else file[cut:]
        if name.startswith(".." + os.sep):
            raise Usage(f"{file} is not below {start}")
        path = Path(name).as_posix() if os.sep != "/" else name
        if wildcards and not any(_fits(path, each) for each in wildcards):
            continue
        path = f"{inner}/{path}" if inner else path
        found.append(
            Source(path, file, about.st_size, about.st_mtime_ns, bool(about.st_mode & 0o100))
        )
    return sorted(found, key=lambda each: each.path)


def _fits(path: str, wildcard: str) -> bool:
    return fnmatch(path.rpartition("/")[2], wildcard) or fnmatch(path, wildcard)


def _walk(top: str, recursive: bool) -> Iterator[tuple[str, os.stat_result]]:
    waiting = [top]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if recursive:
                        waiting.append(entry.path)
                    continue
                try:
                    about = entry.stat()
                except FileNotFoundError:
                    if entry.is_symlink():
                        raise Usage(f"{entry.path} is a link to nothing") from None
                    continue  # it was deleted just now
                if stat.S_ISREG(about.st_mode):
                    yield entry.path, about
