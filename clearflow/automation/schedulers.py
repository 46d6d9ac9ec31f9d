"""Schedulers: groups of schedules, each a thing of its own in a project.

A scheduler is a deployment of `clearflow-launch` with one Prefect schedule for each of its jobs.
What a direct job launches is a deployment of its own beside the task's, and Prefect queues its
runs by itself. Nothing has to keep running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from clearflow._prefect import deployments, schedules, variables
from clearflow._prefect.http import Api
from clearflow._prefect.schedules import Schedule
from clearflow.automation.jobs import Firing
from clearflow.errors import NotFound, Usage
from clearflow.settings import settings
from clearflow.words import fires
from clearflow.words.names import slug

ENTRYPOINT = "clearflow.apps.launch.launch"
TAG, DIRECT = "clearflow:scheduler", "clearflow:scheduled-by:"
CURSOR = "clearflow_fires_"


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A scheduler as it is on the server."""

    id: str
    name: str
    project: str
    queue: str
    pool: str
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A job as a listing shows it. `next` are moments, the first one first."""

    scheduler: Scheduler
    name: str
    words: str
    zone: str
    what: str
    active: bool
    missed: str
    direct: bool
    schedule: Schedule
    next: Sequence[datetime] = ()
    number: int = 0
    task: str | None = None
    order: Mapping[str, Any] = field(default_factory=dict)


def cursor_name(scheduler: str, job: str) -> str:
    """The Variable that keeps how far a job has come."""
    return f"{cursors_of(scheduler)}{slug(job, 1)[-8:]}"


def cursors_of(scheduler: str) -> str:
    """How the names of all these begin."""
    return f"{CURSOR}{scheduler.replace('-', '')}_"


def origin(scheduler: str, job: str) -> str:
    """Who launches the tasks of a job."""
    return f"schedule {scheduler} {job}"


# -- finding ----------------------------------------------------------------------------------


def parsed(item: Mapping[str, Any]) -> Scheduler:
    """A scheduler from its deployment."""
    said = item.get("labels") or {}
    return Scheduler(
        id=str(item["id"]),
        name=str(said.get("clearflow.name") or item["name"]),
        project=str(said.get("clearflow.project") or _tagged(item, "project:")),
        queue=str(item.get("work_queue_name") or fires.QUEUE),
        pool=str(item.get("work_pool_name") or settings().pool),
        paused=bool(item.get("paused")),
    )


def _tagged(item: Mapping[str, Any], prefix: str) -> str:
    """What a tag says, of a deployment that `prefect deploy` has made: it has no labels."""
    return next((t[len(prefix) :] for t in item["tags"] if t.startswith(prefix)), "")


async def schedulers(
    api: Api, name: str | None = None, project: str | None = None
) -> list[Scheduler]:
    """Those there are, by project and name."""
    wanted = [TAG] + ([f"project:{project}"] if project is not None else [])
    found = [parsed(item) for item in await schedules.tagged(api, wanted)]
    kept = [each for each in found if name in {None, each.name}]
    return sorted(kept, key=lambda each: (each.project, each.name))


async def read(api: Api, scheduler_id: str) -> Scheduler:
    """One by the id of its deployment. Raises NotFound."""
    return parsed(await deployments.read(api, scheduler_id))


async def listing(api: Api, name: str | None = None, project: str | None = None) -> list[Shown]:
    """All jobs of all schedulers, or of some, with what comes next."""
    found: list[Shown] = []
    for each in await schedulers(api, name, project):
        found += await jobs(api, each)
    return found


async def jobs(api: Api, of: Scheduler) -> list[Shown]:
    """The jobs of one scheduler, by name."""
    mine, following, cursors, direct = await asyncio.gather(
        schedules.of(api, of.id),
        _following(api, of.id),
        variables.starting_with(api, cursors_of(of.id)),
        schedules.tagged(api, [f"{DIRECT}{of.id}"]),
    )
    found = [_shown(of, each, following, cursors) for each in mine]
    for item in direct:
        coming = await _following(api, str(item["id"]))
        for each in await schedules.of(api, str(item["id"])):
            found.append(_shown_direct(of, item, each, coming))
    return sorted(found, key=lambda each: each.name)


async def _following(api: Api, deployment: str) -> dict[str, list[datetime]]:
    found: dict[str, list[datetime]] = {}
    now = api.clock.now()
    async for schedule, run in schedules.coming(api, deployment):
        if run.place is not None and run.place > now:
            found.setdefault(schedule, []).append(run.place)
    return found


def _shown(
    of: Scheduler,
    each: Schedule,
    following: Mapping[str, Sequence[datetime]],
    cursors: Mapping[str, Any],
) -> Shown:
    firing = Firing.model_validate(each.parameters.get("firing") or _blank(of, each))
    known = cursors.get(cursor_name(of.id, firing.job))
    cursor = fires.Cursor.parse(known) if known else None
    order = firing.launch
    return Shown(
        of,
        firing.job or each.slug,
        firing.words or _plain_words(each),
        firing.zone,
        order.what if order else "all that is due",
        each.active and not of.paused,
        firing.missed,
        False,
        each,
        tuple(following.get(each.id, ())),
        cursor.number if cursor else 0,
        cursor.task if cursor else None,
        order=order.model_dump(mode="json", exclude_defaults=True) if order else {},
    )


def _blank(of: Scheduler, each: Schedule) -> dict[str, Any]:
    """A schedule that somebody has added in Prefect's UI: it looks for what is due."""
    return {"scheduler": of.name, "project": of.project, "job": each.slug}


def _shown_direct(
    of: Scheduler,
    item: Mapping[str, Any],
    each: Schedule,
    following: Mapping[str, Sequence[datetime]],
) -> Shown:
    said = item.get("labels") or {}
    return Shown(
        of,
        each.slug,
        _plain_words(each),
        str(each.schedule.get("timezone") or "UTC"),
        str(said.get("clearflow.source") or item["name"]),
        each.active and not item.get("paused"),
        fires.ALL,
        True,
        each,
        tuple(following.get(each.id, ())),
        order={"parameters": dict(each.parameters), "queue": item.get("work_queue_name")},
    )


def _plain_words(each: Schedule) -> str:
    said = each.schedule
    if said.get("interval"):
        return f"every {said['interval']:g} s"
    return f"cron {said['cron']}" if said.get("cron") else str(said.get("rrule") or "")


async def one(
    api: Api, job: str, scheduler: str | None = None, project: str | None = None
) -> Shown:
    """A job by its name. Raises NotFound, and Usage when several schedulers have one."""
    found = [each for each in await listing(api, scheduler, project) if each.name == job]
    if not found:
        raise NotFound(f"there is no schedule {job!r}", hint="`clearflow schedule ls` lists them")
    if len(found) > 1:
        where = ", ".join(f"{s.scheduler.project!r} · {s.scheduler.name!r}" for s in found)
        raise Usage(f"{job!r} is a schedule of {where}", hint="--scheduler and --project say which")
    return found[0]
