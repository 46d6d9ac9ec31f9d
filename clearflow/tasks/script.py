"""Queueing a script: as it stands here, to be run somewhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clearflow import stores
from clearflow._prefect import blobs, deployments, pools, runs
from clearflow._prefect.blobs import Progress
from clearflow._prefect.http import Api
from clearflow.capture import snapshot
from clearflow.errors import Refused
from clearflow.settings import settings
from clearflow.tasks.packing import Packed, job_of_needs
from clearflow.words import lifecycle, scripts
from clearflow.words.models import Run
from clearflow.words.names import DEPLOYMENT, flow_name, labels, stored, tags
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
    job = job_of_needs(packed.needed) | {
        scripts.KEY: replace(packed.script, parts=tuple(parts)).dump()
    }
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
