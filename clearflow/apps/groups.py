"""The applications `scheduler` and `triggers`: groups of what launches tasks by itself.

Nothing of them runs all the time: Prefect wakes them when something is due, or has happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.automation import schedulers, schedules, triggers
from clearflow.automation.jobs import Job
from clearflow.automation.reactions import Trigger
from clearflow.words.names import shown

SCHEDULER, TRIGGERS = "scheduler", "triggers"


class SchedulerSettings(BaseModel):
    """What is launched by the clock."""

    model_config = ConfigDict(extra="forbid")

    schedules: list[Job] = Field(
        min_length=1, description="As `clearflow schedule apply` has them: name, launch, cron …"
    )


class TriggersSettings(BaseModel):
    """What is launched when something happens."""

    model_config = ConfigDict(extra="forbid")

    triggers: list[Trigger] = Field(
        min_length=1,
        description="As `clearflow trigger apply` has them: name, kind, launch …",
    )


@dataclass(frozen=True)
class Group:
    """A scheduler, or a group of triggers, that somebody has made.

    `said` is what each of its parts does, by name; it is `active` while one of them is.
    """

    app: str
    name: str
    project: str
    queue: str
    deployment: str
    said: Mapping[str, str]
    active: bool


async def check(settings: BaseModel) -> None:
    """What can be known before. Raises as `schedules.check` and `triggers.check`."""
    async with Api(connection()) as api:
        if isinstance(settings, SchedulerSettings):
            await schedules.check(api, settings.schedules)
        elif isinstance(settings, TriggersSettings):
            await triggers.check(api, settings.triggers)


async def groups(api: Api) -> list[Group]:
    """All of them."""
    found = []
    for of in await schedulers.schedulers(api):
        jobs = await schedulers.jobs(api, of)
        said = {job.name: f"{job.words}: {job.what}" for job in jobs}
        active = any(job.active for job in jobs)
        where = (of.name, of.project, shown(of.queue), of.id)
        found.append(Group(SCHEDULER, *where, said, active))
    for group in await triggers.groups(api):
        parts = await triggers.of(api, group)
        said = {t.trigger.name: f"{t.trigger.when().words}: {t.trigger.launch.what}" for t in parts}
        active = any(each.active for each in parts)
        where = (group.name, group.project, shown(group.queue), group.id)
        found.append(Group(TRIGGERS, *where, said, active))
    return found


async def put(
    api: Api, settings: BaseModel, *, name: str, project: str, queue: str, by: str
) -> bool:
    """Make it so: the group has these parts, and no others. Whether anything has changed."""
    if isinstance(settings, SchedulerSettings):
        jobs = settings.schedules
        done = await schedules.put(api, name, project, jobs, by=by, queue=queue, exactly=True)
    else:
        assert isinstance(settings, TriggersSettings)
        parts = settings.triggers
        done = await triggers.put(api, name, project, parts, by=by, queue=queue, exactly=True)
    return any(what != "unchanged" for _, what in done)


async def pause(api: Api, group: Group) -> None:
    """Switch all of it off; what is due, or happens, meanwhile is not made up for."""
    if group.app == SCHEDULER:
        for job in await schedulers.listing(api, group.name, group.project):
            await schedules.pause(api, job, active=False)
    else:
        for each in await triggers.listing(api, group.name, group.project):
            await triggers.pause(api, each, active=False)


async def remove(api: Api, group: Group) -> None:
    """Remove it with all of its parts; the tasks that they have launched stay."""
    if group.app == SCHEDULER:
        await schedules.remove_scheduler(api, await schedulers.read(api, group.deployment))
        return
    for each in await triggers.groups(api, group.name, group.project):
        await triggers.remove_group(api, each)
