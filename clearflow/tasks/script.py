"""Queueing a script: as it stands here, to be run somewhere else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clearflow import stores
from clearflow._prefect import blobs, deployments, pools, runs
from clearflow._prefect.blobs import Progress
from clearflow._prefect.http import Api
from clearflow.capture import loose, snapshot
from clearflow.capture.snapshot import Part, Snapshot
from clearflow.environment import collect
from clearflow.environment.collect import Needed
from clearflow.environment.recipe import Recipe
from clearflow.errors import Refused, Usage
from clearflow.settings import settings
from clearflow.words import lifecycle, scripts
from clearflow.words.models import Run
from clearflow.words.names import DEPLOYMENT, flow_name, labels, stored, tags
from clearflow.words.notebooks import SUFFIX, as_script
from clearflow.words.notes import Note
from clearflow.words.scripts import PartSent, Script

_ARGUMENTS = {
    "title": "Arguments",
    "type": "array",
    "items": {"type": "string"},
    "default": [],
    "description": "What stands behind the script on its command line.",
    "position": 0,
}
_PACKAGES = ".clearflow/packages"
_CLEARFLOW = re.compile(r"\s*clearflow\s*($|[=<>!~;@\[#])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """A script to be queued.

    `named` are files that may be sent though they look like secrets, `folder` is where it starts,
    below the root of its working copy, `variables` are further job variables. A `function` of the
    file is called instead of it, or it is run as a `module`.
    """

    file: Path
    queue: str | None = None
    arguments: Sequence[str] = ()
    project: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    needed: Needed | None = None
    python_version: str | None = None
    named: Sequence[str] = ()
    max_attempts: int | None = None
    pool: str | None = None
    folder: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    function: str = ""
    module: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Packed:
    """An order with everything that has to travel, taken at one moment."""

    order: Order
    project: str
    script: Script
    snapshot: Snapshot
    needed: Needed
    root: Path
    place: Path

    def with_imported(self, imported: Mapping[str, Any]) -> Packed:
        """With what the running program has imported, where its project says nothing itself.

        Packages that lie in a folder elsewhere come along. Raises Refused for one that cannot.
        """
        if self.needed.source is not None:
            return self
        needed = collect.of_process(imported, self.root)
        parts, paths = [*self.script.parts], [*needed.paths]
        taken = [*self.snapshot.parts]
        for name, folder in needed.outside:
            part = _of_package(name, folder, self.place / "packages" / name)
            taken.append(part)
            parts.append(PartSent(part.path, part.commit, part.tree, None))
            inner = collect.importable(folder).relative_to(folder)
            paths.append((Path(part.path) / inner).as_posix())
        script = replace(self.script, parts=tuple(parts), paths=tuple(paths))
        snapshot = replace(self.snapshot, parts=tuple(taken))
        return replace(self, needed=needed, script=script, snapshot=snapshot)


def _of_package(name: str, folder: Path, place: Path) -> Part:
    """A package that lies elsewhere, as a part of the snapshot."""
    (place / "git").mkdir(parents=True)
    (place / "files").mkdir()
    taken = snapshot.take(loose.gather_package(folder, place / "files"), place / "git")
    if taken.forbidden:
        raise Refused(
            f"these files of the package {name} look like secrets, and would be sent:"
            f" {', '.join(taken.forbidden)}",
            hint="list them in its .gitignore",
        )
    return replace(taken.parts[0], path=f"{_PACKAGES}/{name}", remote=None)


def pack(order: Order, place: Path) -> Packed:
    """Take the script as it stands here, into the folder `place`; nothing is sent yet.

    Raises Usage for a file that cannot run, Refused for one that must not travel.
    """
    file = order.file.resolve()
    if not file.is_file():
        raise Usage(f"there is no file {order.file}")
    needed = order.needed
    home = snapshot.root_of(file.parent)
    if home is None and "." in order.module:
        raise Usage(
            f"the module {order.module} lies in no git repository, and cannot travel as a package",
            hint="git init there, or name the file as the script",
        )
    if needed is None:
        needed = collect.collect(file, home or file.parent)
    if order.python_version:
        needed = replace(needed, python_version=order.python_version)
    # What no machine could install is told before anything is queued.
    Recipe.of(_job(needed), prefect=False)
    root = home or _gather(order, file, place / "loose")
    (place / "git").mkdir(parents=True)
    taken = snapshot.take(root, place / "git")
    _check(order, taken)
    parts = tuple(PartSent(p.path, p.commit, p.tree, p.remote) for p in taken.parts)
    # Outside a repository the script stands at the top of one made for it.
    entry = file.relative_to(home or file.parent).as_posix()
    start = order.folder if order.folder is not None else _folder(root)
    script = Script(entry, start, parts, function=order.function, module=order.module)
    folder = home or file.parent
    project = _project(order, taken, folder)
    return Packed(order, project, script, taken, needed, folder, place)


def _gather(order: Order, file: Path, place: Path) -> Path:
    place.mkdir(parents=True)
    code = None
    if file.suffix == SUFFIX:
        try:
            code = as_script(file.read_text())
        except ValueError as error:
            raise Usage(f"{order.file} is no notebook: {error}") from None
    try:
        return loose.gather(file, place, code)
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
    # clearflow comes from the agent.
    lines = [r for r in needed.requirements if not _CLEARFLOW.match(r)]
    if lines:
        job["requirements"] = lines
    if needed.python_version:
        job["python_version"] = needed.python_version
    return job


async def submit(api: Api, packed: Packed, *, by: str, progress: Progress) -> Run:
    """Send what has to travel, and queue the task at the back of its queue.

    Without a queue it becomes a draft. Nothing is queued before everything has arrived. Raises
    NotFound for a queue that does not exist, Refused when there is too much to send.
    """
    order = packed.order
    pool = order.pool or settings().pool
    if order.queue is not None:
        await pools.queue(api, pool, order.queue)
    queued = lifecycle.queued(Note(f"queued by {by}", by=by))
    job = await send(api, packed, progress)
    name = order.name or order.file.name
    found = await template(api, packed.project, name, job, pool=pool, queue=order.queue)
    return await runs.create(
        api,
        found,
        write=lifecycle.made(by) if order.queue is None else queued,
        name=name,
        queue=stored(order.queue) if order.queue is not None else None,
        parameters={scripts.ARGUMENTS: list(order.arguments), **order.parameters},
        job_variables=job,
        tags=[*order.tags, *tags(packed.project, by)],
        labels=labels(name, packed.project),
    )


async def send(api: Api, packed: Packed, progress: Progress) -> dict[str, Any]:
    """Send the snapshot to where agents find it; the job variables of the task.

    Raises Refused when there is too much to send.
    """
    parts = []
    for part, taken in zip(packed.script.parts, packed.snapshot.parts, strict=True):
        if taken.bundle is not None:
            part = await _sent(api, part, taken.bundle, packed.snapshot.largest, progress)
        parts.append(part)
    job = _job(packed.needed) | {scripts.KEY: replace(packed.script, parts=tuple(parts)).dump()}
    if packed.order.max_attempts is not None:
        job["max_attempts"] = packed.order.max_attempts
    return job | dict(packed.order.variables)


async def _sent(
    api: Api, part: PartSent, bundle: Path, largest: str, progress: Progress
) -> PartSent:
    """A part whose bundle agents find: on the server, or a large one in the store."""
    size = bundle.stat().st_size  # noqa: ASYNC240 - a local file
    if size <= blobs.LARGEST:
        return replace(part, pieces=(await blobs.put(api, bundle, progress)).pieces)
    store = await stores.shared(api)
    if store is None:
        named = f"the largest new file is {largest}; " if largest else ""
        raise Refused(
            f"{size / 1e6:.0f} MB are too much to send through Prefect: at most"
            f" {blobs.LARGEST / 1e6:.0f} MB without a store",
            hint=f"{named}list large data in .gitignore, or name a store that agents reach:"
            " `clearflow store set URL`",
        )
    done = 0

    def more(bytes: int) -> None:
        nonlocal done
        progress(done := done + bytes, size)

    return replace(part, stored=await store.put(bundle, more))


async def template(
    api: Api,
    project: str | None,
    name: str,
    job: Mapping[str, Any],
    *,
    pool: str,
    queue: str | None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The deployment from which tasks of this name are started again, as this one is."""
    script = Script.of(job)
    assert script is not None
    return await deployments.ensure(
        api,
        flow=flow_name(project, name) if project is not None else stored(name),
        name=DEPLOYMENT,
        pool=pool,
        queue=stored(queue) if queue is not None else None,
        entrypoint=script.entry,
        parameters_schema=_schema(parameters or {}),
        tags=tags(project),
        labels=labels(name, project),
        job_variables=job,
    )


_JOB = "clearflow.job"


async def keep_job(api: Api, run_id: str, job: Mapping[str, Any]) -> None:
    """Keep the job variables of a task that runs already: Prefect changes them only before."""
    await runs.label(api, run_id, {_JOB: json.dumps(job)})


def job_of(run: Run) -> dict[str, Any]:
    """The job variables of a task, wherever they are kept."""
    return {**json.loads(run.labels.get(_JOB, "{}")), **run.job_variables}


async def template_of(api: Api, run: Run, queue: str | None = None) -> dict[str, Any]:
    """The template of a task that was started without one. Raises Refused without its code."""
    job = job_of(run)
    if Script.of(job) is None:
        raise Refused(
            f"task {run.task_id[:8]} ({run.name}) has no code with it",
            hint="what its program said when it began tells why it could not be kept",
        )
    name = str(run.labels.get("clearflow.name") or run.name)
    return await template(
        api,
        run.project,
        name,
        job,
        pool=run.pool or settings().pool,
        queue=queue,
        parameters=run.parameters,
    )


_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def _schema(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The form in which Prefect's UI asks for the arguments, and for the sections of a task."""
    properties: dict[str, Any] = {scripts.ARGUMENTS: _ARGUMENTS}
    for number, (section, values) in enumerate(parameters.items(), start=1):
        if section != scripts.ARGUMENTS:
            properties[section] = {**_field(section, values), "position": number}
    return {"type": "object", "properties": properties}


def _field(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        inner = {key: _field(key, each) for key, each in value.items()}
        return {"title": name, "type": "object", "properties": inner}
    kind = _TYPES.get(type(value))
    field: dict[str, Any] = {"title": name, "default": value}
    if kind is not None:
        field["type"] = kind
    return field


async def fetch(api: Api, script: Script, place: Path) -> list[snapshot.Part]:
    """Fetch what the remotes lack into the folder `place`: the parts, ready to be reproduced."""

    async def one(number: int, part: PartSent) -> snapshot.Part:
        bundle = place / f"{number}.bundle" if part.pieces or part.stored else None
        if bundle is not None and part.stored:
            await (await stores.opened(api)).get(part.stored, bundle)
        elif bundle is not None:
            await blobs.get(api, blobs.Blob(part.pieces), bundle)
        return snapshot.Part(part.path, part.commit, part.tree, part.remote, bundle)

    return list(await asyncio.gather(*(one(n, p) for n, p in enumerate(script.parts))))
