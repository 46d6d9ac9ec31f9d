"""Large contents on their way between a program and whoever answers it, piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.later import Later

if TYPE_CHECKING:
    import base64
    import uuid

    from clearflow.client import packing, watching
else:
    uuid = Later("uuid")
    base64 = Later("base64")
    packing = Later("clearflow.client.packing")
    watching = Later("clearflow.client.watching")


def spooled(packed: packing.Packed) -> str:
    """Hand a content over to whoever answers; the name it has in the store."""
    name = uuid.uuid4().hex
    door.ask("spool", name=name, data="")  # there may be nothing in it
    done, bar = 0, watching.Bar("sent")
    for piece in packed.pieces():
        door.ask("spool", name=name, data=base64.b64encode(piece).decode())
        done += len(piece)
        bar.show(done, packed.size)
    bar.close()
    return str(door.ask("keep", name=name))


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
