"""Direct jobs: Prefect queues the task itself, without anybody looking."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clearflow._prefect import deployments, schedules
from clearflow._prefect.http import Api
from clearflow.automation import launching
from clearflow.automation.jobs import Job
from clearflow.automation.schedulers import DIRECT, Scheduler
from clearflow.errors import NotFound, Usage
from clearflow.tasks.describe import name_of
from clearflow.tasks.script import job_of
from clearflow.words import launches, parameters
from clearflow.words.calendar import When
from clearflow.words.names import LAUNCHED, labels, stored, tags

_SHARING = 50
"""So many at most share a deployment: when one of them needs runs Prefect works out all of it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A job that was checked: when it fires, and what it starts from now."""

    job: Job
    when: When | None
    source: launching.Source


async def add(api: Api, scheduler: Scheduler, plans: Sequence[Plan], by: str) -> None:
    """Those of the same target, queue and needs share a deployment."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        order = plan.job.launch.model_dump(exclude={"parameters"})
        groups.setdefault(repr(sorted(order.items())), []).append(plan)
    parts = [
        (key, number // _SHARING, some[number : number + _SHARING])
        for key, some in groups.items()
        for number in range(0, len(some), _SHARING)
    ]
    for key, number, some in parts:
        digest = hashlib.sha256(f"{scheduler.id} {number} {key}".encode()).hexdigest()[:8]
        group = await _group(api, scheduler, some[0], f"schedule-{digest}", by)
        wanted = []
        for plan in some:
            assert plan.when is not None
            wanted.append(
                {
                    "schedule": dict(plan.when.schedule),
                    "slug": plan.job.name,
                    "active": plan.job.active,
                    "parameters": _values(plan),
                }
            )
        await schedules.add(api, group, wanted)
        await schedules.make_runs(api, group)


def _values(plan: Plan) -> dict[str, Any]:
    said, base = plan.job.launch.parameters, plan.source
    if base.run is not None:
        return launching.changed(base.run, said)
    known = (base.deployment or {}).get("parameters") or {}
    return parameters.merged(known, launches.wanted(said, flow=True))


async def _group(api: Api, scheduler: Scheduler, plan: Plan, name: str, by: str) -> str:
    order, run, base = plan.job.launch, plan.source.run, plan.source.deployment
    if base is None and run is not None and run.deployment_id is not None:
        base = await deployments.read(api, run.deployment_id)
    if base is None:
        raise Usage(f"{plan.job.name!r} cannot be direct: its task has never been in a queue")
    flow = (await deployments.flow_names(api, [str(base["flow_id"])]))[str(base["flow_id"])]
    try:
        return str((await deployments.by_name(api, flow, name))["id"])
    except NotFound:
        pass
    job = {**(base.get("job_variables") or {}), **(job_of(run) if run else {})}
    job |= launching.job_variables(order)
    known = base.get("labels") or {}
    title = order.name or (name_of(run) if run else known.get("clearflow.name") or base["name"])
    project = order.target_project or (run.project if run else known.get("clearflow.project"))
    made = await deployments.ensure(
        api,
        flow=flow,
        name=name,
        pool=plan.source.pool,
        queue=stored(order.queue)
        if order.queue
        else (run.queue if run else base["work_queue_name"]),
        entrypoint=base["entrypoint"],
        path=base.get("path"),
        parameters=dict(base.get("parameters") or {}),
        parameters_schema=base.get("parameter_openapi_schema"),
        tags=[f"{DIRECT}{scheduler.id}", *order.tags, *tags(project, by)],
        labels={
            **labels(title, project),
            LAUNCHED: f"scheduler {scheduler.name!r} of {scheduler.project}",
            "clearflow.source": order.what,
        },
        job_variables=job,
    )
    return str(made["id"])
