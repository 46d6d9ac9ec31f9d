"""Queueing a script: as it stands here, to be run somewhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clearflow._prefect import blobs, deployments, pools, runs
from clearflow._prefect.blobs import Progress
from clearflow._prefect.http import Api
from clearflow.capture import loose, snapshot
from clearflow.capture.snapshot import Snapshot
from clearflow.environment import collect
from clearflow.environment.collect import Needed
from clearflow.environment.recipe import Recipe
from clearflow.errors import Refused, Usage
from clearflow.settings import settings
from clearflow.words import lifecycle, scripts
from clearflow.words.models import Run
from clearflow.words.names import DEPLOYMENT, flow_name, labels, stored, tags
from clearflow.words.notes import Note
from clearflow.words.scripts import PartSent, Script

_SCHEMA = {
    "type": "object",
    "properties": {
        scripts.ARGUMENTS: {
            "title": "Arguments",
            "type": "array",
            "items": {"type": "string"},
            "default": [],
            "description": "What stands behind the script on its command line.",
            "position": 0,
        }
    },
}


@dataclass(frozen=True, slots=True)
class Order:
    """A script to be queued. `named` are files that may be sent though they look like secrets."""

    file: Path
    queue: str
    arguments: Sequence[str] = ()
    project: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    needed: Needed | None = None
    python_version: str | None = None
    named: Sequence[str] = ()
    max_attempts: int | None = None
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """An order with everything that has to travel, taken at one moment."""

    order: Order
    project: str
    script: Script
    snapshot: Snapshot
    needed: Needed


def pack(order: Order, place: Path) -> Packed:
    """Take the script as it stands here, into the empty folder `place`; nothing is sent yet.

    Raises Usage for a file that cannot run, Refused for one that must not travel.
    """
    file = order.file.resolve()
    if not file.is_file():
        raise Usage(f"there is no file {order.file}")
    needed = order.needed
    home = snapshot.root_of(file.parent)
    if needed is None:
        needed = collect.collect(file, home or file.parent)
    if order.python_version:
        needed = replace(needed, python_version=order.python_version)
    # What no machine could install is told before anything is queued.
    Recipe.of(_job(needed), prefect=False)
    root = home or _gather(order, file, place / "loose")
    (place / "git").mkdir()
    taken = snapshot.take(root, place / "git")
    _check(order, taken)
    parts = tuple(PartSent(p.path, p.commit, p.tree, p.remote) for p in taken.parts)
    # Outside a repository the script stands at the top of one made for it.
    entry = file.relative_to(home or file.parent).as_posix()
    script = Script(entry, _folder(root), parts)
    return Packed(order, _project(order, taken, home or file.parent), script, taken, needed)


def _gather(order: Order, file: Path, place: Path) -> Path:
    place.mkdir()
    try:
        return loose.gather(file, place)
    except SyntaxError as error:
        raise Usage(f"{order.file}:{error.lineno}: {error.msg}") from None


def _folder(root: Path) -> str:
    """The folder the script starts in: where the user stands, if that is in the working copy."""
    here = Path.cwd().resolve()
    return here.relative_to(root).as_posix() if here.is_relative_to(root) else "."


def _project(order: Order, taken: Snapshot, folder: Path) -> str:
    """The name of the repository, else of the folder, where the user gives none."""
    remote = taken.parts[0].remote
    repository = remote.rstrip("/").rpartition("/")[2].removesuffix(".git") if remote else ""
    return order.project or repository or folder.name or "default"


def _check(order: Order, taken: Snapshot) -> None:
    held_back = [name for name in taken.forbidden if name not in order.named]
    if held_back:
        raise Refused(
            f"these files look like secrets, and would be sent: {', '.join(held_back)}",
            hint="list them in .gitignore, or name those that shall go with --send",
        )


def _job(needed: Needed) -> dict[str, Any]:
    job: dict[str, Any] = {}
    if needed.requirements:
        job["requirements"] = list(needed.requirements)
    if needed.python_version:
        job["python_version"] = needed.python_version
    return job


async def submit(api: Api, packed: Packed, *, by: str, progress: Progress) -> Run:
    """Send what has to travel, and queue the task at the back of its queue.

    Nothing is queued before everything has arrived. Raises NotFound for a queue that does not
    exist, Refused when there is too much to send.
    """
    order = packed.order
    pool = order.pool or settings().pool
    await pools.queue(api, pool, order.queue)
    parts = []
    for part, taken in zip(packed.script.parts, packed.snapshot.parts, strict=True):
        if taken.bundle is not None:
            part = replace(part, pieces=(await blobs.put(api, taken.bundle, progress)).pieces)
        parts.append(part)
    job = _job(packed.needed) | {scripts.KEY: replace(packed.script, parts=tuple(parts)).dump()}
    if order.max_attempts is not None:
        job["max_attempts"] = order.max_attempts
    name = order.name or order.file.name
    template = await deployments.ensure(
        api,
        flow=flow_name(packed.project, name),
        name=DEPLOYMENT,
        pool=pool,
        queue=stored(order.queue),
        entrypoint=packed.script.entry,
        parameters_schema=_SCHEMA,
        tags=tags(packed.project),
        labels=labels(name, packed.project),
        job_variables=job,
    )
    return await runs.create(
        api,
        deployment_id=str(template["id"]),
        write=lifecycle.queued(Note(f"queued by {by}", by=by)),
        name=name,
        queue=stored(order.queue),
        parameters={scripts.ARGUMENTS: list(order.arguments)},
        job_variables=job,
        tags=[*order.tags, *tags(packed.project, by)],
        labels=labels(name, packed.project),
    )


async def fetch(api: Api, script: Script, place: Path) -> list[snapshot.Part]:
    """Fetch what the remotes lack into the folder `place`: the parts, ready to be reproduced."""

    async def one(number: int, part: PartSent) -> snapshot.Part:
        bundle = place / f"{number}.bundle" if part.pieces else None
        if bundle is not None:
            await blobs.get(api, blobs.Blob(part.pieces), bundle)
        return snapshot.Part(part.path, part.commit, part.tree, part.remote, bundle)

    return list(await asyncio.gather(*(one(n, p) for n, p in enumerate(script.parts))))
