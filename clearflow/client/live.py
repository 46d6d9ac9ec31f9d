"""Artifacts that follow an object: it is uploaded again whenever it has changed.

A thread looks at the objects, and rests for so long after a look that looking costs next to
nothing, however large they are. What they are at the end of the task is what stays.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from clearflow.client import outbox
from clearflow.client.later import Later
from clearflow.errors import Usage

if TYPE_CHECKING:
    import hashlib

    from clearflow.client import packing
else:
    hashlib = Later("hashlib")
    packing = Later("clearflow.client.packing")


_EVERY = 2.0  # seconds
_FAILED = "failed"
_SHARE = 30  # times the duration of a look

Upload = Callable[..., Any]


class _Followed:
    def __init__(self, thing: Any, metadata: Mapping[str, Any] | None, upload: Upload) -> None:
        self.thing, self.metadata, self.upload = thing, metadata, upload
        self.digest = ""


_followed: dict[tuple[str, str], _Followed] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None


def follow(
    task: str, name: str, thing: Any, metadata: Mapping[str, Any] | None, upload: Upload
) -> None:
    """Have an artifact be what an object is, from now on. Raises Usage for what cannot change."""
    if not (isinstance(thing, (dict, list, set)) or hasattr(thing, "to_csv")):
        raise Usage(
            f"a {type(thing).__name__} cannot be followed",
            hint="data frames, dictionaries, lists and sets can; upload_artifact keeps all else",
        )
    global _thread
    with _lock:
        _followed[task, name] = _Followed(thing, metadata, upload)
        if _thread is None:
            _thread = threading.Thread(target=_keep_looking, daemon=True, name="clearflow-live")
            _thread.start()
            # Before what else is done at the end, as it is registered after that.
            atexit.register(settle)
    look(task)


def forget(task: str, name: str) -> None:
    """Leave an artifact as it is from now on. Raises Usage for one that follows nothing."""
    with _lock:
        if _followed.pop((task, name), None) is None:
            raise Usage(f"no artifact {name!r} was registered")


def followed(task: str) -> dict[str, Any]:
    """The objects of a task that are followed, by name."""
    with _lock:
        return {name: each.thing for (of, name), each in _followed.items() if of == task}


def look(task: str | None = None) -> None:
    """Upload what has changed since the last look."""
    with _lock:
        for (of, name), each in _followed.items():
            if task not in (None, of):
                continue
            try:
                digest = hashlib.sha256(packing.pack(name, each.thing).content).hexdigest()
                if digest != each.digest:
                    each.upload(name, each.thing, metadata=each.metadata)
                    each.digest = digest
            except RuntimeError:
                continue  # it changes at this very moment: the next look will see what it became
            except Exception as error:  # what an object raises is up to its author
                if each.digest != _FAILED:
                    print(f"clearflow: the artifact {name!r} is not kept: {error}", file=sys.stderr)
                each.digest = _FAILED


def settle(task: str | None = None) -> None:
    """Upload what has changed, and follow it no more: the task ends."""
    look(task)
    with _lock:
        for key in [key for key in _followed if task in (None, key[0])]:
            del _followed[key]
    outbox.flush()


def _keep_looking() -> None:
    pause = _EVERY
    while True:
        time.sleep(pause)
        began = time.perf_counter()
        look()
        pause = max(_EVERY, _SHARE * (time.perf_counter() - began))


def _in_child() -> None:
    """What is followed here is the parent's."""
    global _lock, _thread
    _lock, _thread = threading.Lock(), None
    _followed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
