"""Files and streams as the store reads them: hashed on the way, taken up where they stopped."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

Progress = Callable[[int], None]
"""Told how many more bytes are done."""

Content = bytes | memoryview

CHUNK = 1 << 20  # bytes
PARTIAL = ".partial"


def quiet(more: int) -> None:
    """A progress that nobody watches."""


def protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def hash_of(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def through(
    source: BinaryIO,
    write: Callable[[bytes], Any],
    progress: Progress,
    made: Any = None,
) -> str:
    """Copy what is left, and make its hash on the way."""
    made = hashlib.sha256() if made is None else made
    while chunk := source.read(CHUNK):
        made.update(chunk)
        write(chunk)
        progress(len(chunk))
    return str(made.hexdigest())


def resumed(partial: Path, made: Any, source: BinaryIO) -> int:
    """Take in what an interrupted transfer has left; how many bytes."""
    try:
        with partial.open("rb") as file:
            done = 0
            while chunk := file.read(CHUNK):
                made.update(chunk)
                done += len(chunk)
    except FileNotFoundError:
        partial.parent.mkdir(parents=True, exist_ok=True)
        return 0
    source.seek(done)
    return done


def tidied(top: Path, seconds: float) -> None:
    """Delete below a store's folder what nobody goes on writing."""
    until = time.time() - seconds
    for file in [*top.rglob(f"*{PARTIAL}"), *(top / "incoming").glob("*")]:
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime < until:
                file.unlink()
