"""Large contents copied by the kernel, and hashed where they arrived.

Copying through a program's memory takes twice the time. What is hashed is the copy, which nobody
else touches: a file that is cut short while it is mapped would end the program.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import TypeVar

from clearflow.store import hashing
from clearflow.store.streams import Content

T = TypeVar("T")

SLICE = 1 << 18
"""Bytes that are written at once: the kernel takes more of them in two or three times the time."""


def copied(source: int, target: int, size: int, start: int, at: int) -> bool:
    """Copy so many bytes from one open file into another; False where that does not work."""
    done = 0
    try:
        while done < size:
            step = min(size - done, SLICE)
            more = os.copy_file_range(source, target, step, start + done, at + done)
            if not more:
                return False
            done += more
    except (OSError, AttributeError):  # other file systems, other systems
        return False
    return True


def name_of(handle: int, size: int) -> str:
    """The hash that an open file goes by."""
    return _mapped(handle, 0, size, hashing.name_of)


def goes_by(handle: int, start: int, size: int, name: str) -> bool:
    """Whether a part of an open file has this hash."""
    return _mapped(handle, start, size, lambda content: hashing.goes_by(content, name))


def _mapped(handle: int, start: int, size: int, act: Callable[[Content], T]) -> T:
    with mmap.mmap(handle, size, prot=mmap.PROT_READ, offset=start) as mapped:
        content = memoryview(mapped)
        try:
            return act(content)
        finally:
            content.release()
