"""The steps of pipelines: tasks like any other, with a place in the graph of their controller.

A step is found by the tag `pipeline:<task id of the controller>`, and made with the unique key
`<task id>:<step>:<try>`: a controller that was killed and begins again finds what it has started.
In Prefect the controller's run has a task run for each step, whose child is the step's run; the
server has it follow the states of the step.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import Usage
from clearflow.settings import settings
from clearflow.tasks import find as finding
from clearflow.tasks import results, script
from clearflow.tasks.clone import clone
from clearflow.tasks.functions import Function, job_of
from clearflow.tasks.origins import Origin, taken_from
from clearflow.tasks.steps import TRY, mark
from clearflow.words import lifecycle, references, scripts
from clearflow.words.models import COMPLETED, Run
from clearflow.words.names import OF_STEPS, STEP, stored, tags
from clearflow.words.notes import Note
from clearflow.words.parameters import merged
from clearflow.words.scripts import Script


@dataclass(frozen=True, slots=True)
class Order:
    """A step to be started: from a task (`base`) or from a function of the controller's code.

    `parents` are the nodes of the steps before it in the graph. `variables` are job variables
    that differ from those of the base task; its code comes from another `origin`, if that is named.
    """

    step: str
    attempt: int
    queue: str
    base: str | None = None
    function: Function | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    configurations: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    parents: Sequence[str] = ()
    project: str | None = None
    cache: bool = False
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A step: its task, its place in the graph, and whether it is one that had completed before."""

    run: Run
    place: str
    cached: bool = False


async def place(api: Api, pipeline: Run, step: str, parents: Sequence[str] = ()) -> str:
    """The place of a step in the graph of its controller's run, made once.

    `parents` are nodes, as the graph has them: `flow_run:<id>` of a step that ran, and
    `task_run:<id>` of one that was done before.
    """
    nodes = [node.partition(":") for node in parents]
    body = {
        "flow_run_id": pipeline.id,
        "task_key": step,
        "dynamic_key": "0",
        "name": step,
        "state": {"type": "PENDING", "name": "Pending"},
        "task_inputs": {"parents": [{"input_type": kind, "id": id} for kind, _, id in nodes]},
    }
    return str((await api.post("/task_runs/", body))["id"])


async def make(api: Api, pipeline: Run, order: Order, *, by: str) -> Made:
    """Start a step: queue its task, or take one that completed with the same code and inputs.

    Raises NotFound for what it refers to, Refused for a controller whose code was not kept.
    """
    where = asyncio.create_task(place(api, pipeline, order.step, order.parents))
    try:
        plan = await _plan(api, pipeline, order)
        spot = await where
    finally:
        where.cancel()
    if order.cache and (known := await _cached(api, plan.digest)) is not None:
        await _show_cached(api, spot, known)
        return Made(known, spot, cached=True)
    labels = {STEP: order.step, TRY: order.attempt}
    labels |= {f"clearflow.configuration.{k}": v for k, v in order.configurations.items()}
    own = [mark(pipeline.task_id), *order.tags]
    if order.cache:
        own.append(f"{OF_STEPS[1]}{plan.digest}")
    queued = lifecycle.queued(Note(f"queued by {by}", by=by))
    key = f"{pipeline.task_id}:{order.step}:{order.attempt}"
    if plan.source is not None:
        run = await clone(
            api,
            plan.source,
            by=by,
            name=order.step,
            parent=pipeline.task_id,
            project=order.project or pipeline.project,
            queue=stored(order.queue),
            parameters=plan.parameters,
            job_variables=plan.changes,
            tags=own,
            labels=labels,
            write=queued,
            key=key,
            task_run=spot,
        )
        return Made(run, spot)
    project = order.project or pipeline.project or "default"
    template = await script.template(
        api,
        project,
        order.step,
        plan.job,
        pool=pipeline.pool or settings().pool,
        queue=order.queue,
        parameters=plan.parameters,
    )
    names = {"clearflow.name": order.step, "clearflow.project": project}
    run = await runs.create(
        api,
        template,
        write=queued,
        name=order.step,
        queue=stored(order.queue),
        parameters=plan.parameters,
        job_variables=plan.job,
        tags=[*own, *tags(project, by)],
        labels={**names, **labels, "clearflow.parent": pipeline.task_id},
        idempotency_key=key,
        task_run=spot,
    )
    return Made(run, spot)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a step will run, and with which parameters; its digest is that of all its inputs."""

    job: Mapping[str, Any]
    parameters: Mapping[str, Any]
    digest: str
    source: Run | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


async def _plan(api: Api, pipeline: Run, order: Order) -> _Plan:
    if order.base is not None:
        source = await finding.one(api, order.base)
        changes = await changed(api, source, order)
        job = {**script.job_of(source), **changes}
        parameters: Mapping[str, Any] = merged(source.parameters, order.parameters)
    elif order.function is not None:
        source, changes = None, {}
        job = {**job_of(pipeline, order.function), **order.variables}
        if order.origin is not None:
            job = await taken_from(api, job, order.origin)
        parameters = {scripts.ARGUMENTS: list(order.function.returns), **order.parameters}
    else:
        raise Usage(f"the step {order.step!r} has nothing to run")
    digest = await _digest(api, job, parameters) if order.cache else ""
    return _Plan(job, parameters, digest, source, changes)


async def changed(api: Api, base: Run, order: Order) -> dict[str, Any]:
    """The job variables in which a step differs from its base task."""
    if order.origin is None:
        return dict(order.variables)
    job = await taken_from(api, script.job_of(base), order.origin)
    return {**order.variables, scripts.KEY: job[scripts.KEY]}


# -- steps that were done before --------------------------------------------------------------


async def _digest(api: Api, job: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """What a step makes of its inputs depends on this: code, environment, parameters, contents.

    Artifacts count by what is in them, wherever they come from.
    """
    said = json.dumps(parameters, sort_keys=True, default=str)
    for task, name in references.artifacts_in(parameters):
        run = await finding.one(api, task)
        known = {a.name: a.hash for a in await results.stored(api, run.id)}
        digest = f"content:{known.get(name)}"
        for written in (references.artifact(task, name), references.address(task, name)):
            said = said.replace(json.dumps(written), json.dumps(digest))
    code: Any = job.get(scripts.KEY)
    own = Script.of(job)
    if own is not None:
        parts = [(p.path, p.tree) for p in own.parts]
        code = [own.entry, own.folder, own.function, parts, list(own.paths)]
    needs = {k: v for k, v in job.items() if k in _NEEDS}
    text = json.dumps([code, needs, said], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


_NEEDS = frozenset({"requirements", "python_version", "image", "setup_script", "env"})


async def _cached(api: Api, digest: str) -> Run | None:
    """The latest task that has completed with these inputs."""
    where = {
        "tags": {"all_": [f"{OF_STEPS[1]}{digest}"]},
        "state": {"type": {"any_": [COMPLETED]}},
    }
    return await anext(runs.find(api, where, limit=1), None)


async def _show_cached(api: Api, spot: str, run: Run) -> None:
    state = {
        "type": COMPLETED,
        "name": "Cached",
        "message": f"done before by task {run.task_id}",
        "state_details": {"cache_key": run.task_id},
    }
    await api.post(f"/task_runs/{spot}/set_state", {"state": state, "force": True})
