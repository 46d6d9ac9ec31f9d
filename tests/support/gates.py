"""Gates: a program waits at one, with `open(path).read()`, until a test opens it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def closed(path: Path) -> Path:
    """A gate where nobody passes yet; one that was opened before stays open."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path)
    return path


def open_gate(path: Path) -> None:
    """Let pass who waits there, and whoever comes later. It need not be there yet."""
    passed = path.with_name(f"{path.name} is open")
    passed.touch()
    try:
        os.link(passed, path)
    except FileExistsError:
        # A FIFO opens at once for who reads and writes. Those that wait see its end.
        writer = os.open(path, os.O_RDWR)
        os.replace(passed, path)
        os.close(writer)
    else:
        passed.unlink()
