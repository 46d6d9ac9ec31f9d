"""Large contents on their way between a program and whoever answers it, piece by piece."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.later import Later
from clearflow.errors import Usage

if TYPE_CHECKING:
    import base64
    import uuid

    from clearflow.client import packing, watching
else:
    uuid = Later("uuid")
    base64 = Later("base64")
    packing = Later("clearflow.client.packing")
    watching = Later("clearflow.client.watching")


outputs: dict[str, Any] = {}
"""Where tasks of this program have their models and artifacts kept, by id, where they said so."""


def output_of(said: Any) -> str | bool | None:
    """Where results are to be kept, as `Task.init` takes it: an address, or the path of a folder.

    True for the store, False for models that stay where they are; None where nothing is said.

    Raises Usage.
    """
    if said is None or isinstance(said, bool):
        return said
    if not isinstance(said, (str, os.PathLike)) or not str(said).strip():
        raise Usage(
            f"output_uri is {said!r}",
            hint="an address such as s3://bucket/folder, a folder, or True for the store",
        )
    text = os.fspath(said)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def spooled(packed: packing.Packed, task: str | None = None, path: str = "") -> str:
    """Hand a content over to whoever answers; the name it has in the store.

    That of a task may be kept elsewhere, as `path` in the task's folder.
    """
    name = uuid.uuid4().hex
    door.ask("spool", name=name, data="")  # there may be nothing in it
    done, bar = 0, watching.Bar("sent")
    for piece in packed.pieces():
        door.ask("spool", name=name, data=base64.b64encode(piece).decode())
        done += len(piece)
        bar.show(done, packed.size)
    bar.close()
    of = {"task": task, "path": path} if isinstance(outputs.get(task or ""), str) else {}
    return str(door.ask("keep", name=name, **of))


def fetched(target: Path, verb: str, **asked: Any) -> Path:
    """Write what a verb answers piece by piece into a file."""
    bar = watching.Bar("fetched")
    with target.open("wb") as file:
        while True:
            found = door.ask(verb, **asked, offset=file.tell())
            file.write(base64.b64decode(found["content"]))
            bar.show(file.tell(), found["total"])
            if file.tell() >= found["total"]:
                bar.close()
                return target
