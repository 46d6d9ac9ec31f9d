"""The results of a task, read: its scalars, single values, and artifacts with their content."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearflow._prefect import artifacts, blobs
from clearflow._prefect.blobs import Blob
from clearflow._prefect.http import Api
from clearflow.errors import NotFound
from clearflow.words.curves import Curve, Key, Segment, merged
from clearflow.words.models import Run

SCALARS, SCALARS_PICTURE = "scalars", "scalars-picture"
VALUES, ARTIFACTS = "values", "artifacts"
PICTURE, GRID = "picture", "table"

SUMMARY = "Summary"
"""The title under which ClearML shows single values."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A task's artifact: `type` is what kind of object it was, `content` where it is kept."""

    name: str
    type: str
    size: int
    hash: str
    preview: str
    created: str
    file: str
    content: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Last:
    """One scalar in short."""

    title: str
    series: str
    last: float
    min: float
    max: float
    iteration: int


async def curves(api: Api, run_id: str) -> dict[Key, Curve]:
    """The scalars of a run, by title and series, as they are on the server."""
    found = [a async for a in artifacts.of(api, run_id, artifacts.HIDDEN) if a.kind == SCALARS]
    parsed = (Segment.parse(a.data) for a in found)
    return merged(s for s in parsed if s is not None)


async def values(api: Api, run_id: str) -> dict[str, float]:
    """The single values of a run by name."""
    return {row["name"]: float(row["value"]) for row in await _rows(api, run_id, VALUES)}


async def stored(api: Api, run_id: str) -> list[Stored]:
    """The artifacts of a run, by name."""
    found = [_stored(row) for row in await _rows(api, run_id, ARTIFACTS)]
    return sorted(found, key=lambda each: each.name)


def _stored(row: Mapping[str, Any]) -> Stored:
    words = {k: str(row.get(k) or "") for k in _TEXTS}
    return Stored(**words, size=int(row["size"]), metadata=json.loads(row.get("metadata") or "{}"))


_TEXTS = ("name", "type", "hash", "preview", "created", "file", "content")


async def _rows(api: Api, run_id: str, kind: str) -> list[dict[str, Any]]:
    """The rows of our tables of this kind; of one name that row which was written last."""
    found: dict[str, dict[str, Any]] = {}
    async for each in artifacts.of(api, run_id, artifacts.TABLE):
        if each.kind == kind:
            for row in json.loads(each.data):
                found.setdefault(row["name"], row)
    return list(found.values())


async def last(api: Api, run_id: str) -> list[Last]:
    """All scalars of a run in short, single values among them, in the order of their names."""
    found = []
    for (title, series), curve in (await curves(api, run_id)).items():
        low, high = curve.range()
        found.append(Last(title, series, curve.last, low, high, curve.iterations[-1]))
    for name, value in (await values(api, run_id)).items():
        found.append(Last(SUMMARY, name, value, value, value, 0))
    return sorted(found, key=lambda each: (each.title, each.series))


async def named(api: Api, run: Run, name: str) -> Stored:
    """An artifact of a task. Raises NotFound."""
    known = await stored(api, run.id)
    for each in known:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in known) or "none"
    raise NotFound(f"the task {run.name!r} has no artifact {name!r}", hint=f"it has: {names}")


async def content(api: Api, about: Stored) -> bytes:
    """What is in an artifact that went through Prefect."""
    with tempfile.TemporaryDirectory(prefix="clearflow-") as folder:
        file = Path(folder) / "content"
        await blobs.get(api, Blob((about.content,)), file)
        pieces: Sequence[str] = json.loads(file.read_text())["pieces"]
        await blobs.get(api, Blob(tuple(pieces)), file)
        return file.read_bytes()


async def keep(api: Api, content: bytes) -> str:
    """Keep what is in an artifact; returns where. Raises Refused for too much."""
    with tempfile.TemporaryDirectory(prefix="clearflow-") as folder:
        file = Path(folder) / "content"
        file.write_bytes(content)
        pieces = (await blobs.put(api, file)).pieces
        # The list of the pieces is a piece itself, so that one hash names the content.
        file.write_text(json.dumps({"pieces": pieces}))
        return (await blobs.put(api, file)).pieces[0]
