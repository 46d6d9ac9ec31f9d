"""The verbs about schedules: checking, making, listing, changing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from clearflow._prefect.http import Api
from clearflow.service.verbs import Verb
from clearflow.words.fires import NAME, PROJECT, QUEUE

if TYPE_CHECKING:
    from clearflow.automation.schedulers import Shown

# The engine is imported where it is used: it takes longer than all other groups together.


class Schedules:
    """Answers for one person, `by`, in whose name tasks will be launched."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def verbs(self) -> dict[str, Verb]:
        return {
            "schedule.check": self._check,
            "schedule.put": self._put,
            "schedule.list": self._list,
            "schedule.remove": self._remove,
            "schedule.active": self._active,
            "schedule.now": self._now,
        }

    async def _check(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Raises what is wrong with jobs, in one line; nothing is made."""
        from clearflow.automation import schedules
        from clearflow.automation.jobs import parsed

        await schedules.check(self._api, [parsed(each) for each in jobs])

    async def _put(
        self,
        jobs: Sequence[Mapping[str, Any]],
        scheduler: str = NAME,
        project: str = PROJECT,
        queue: str = QUEUE,
        exactly: bool = False,
    ) -> list[dict[str, str]]:
        """The scheduler has these jobs; with `exactly` no others."""
        from clearflow.automation import schedules
        from clearflow.automation.jobs import parsed

        wanted = [parsed(each) for each in jobs]
        done = await schedules.put(
            self._api, scheduler, project, wanted, by=self._by, queue=queue, exactly=exactly
        )
        return [{"name": name, "done": what} for name, what in done]

    async def _list(
        self, scheduler: str | None = None, project: str | None = None
    ) -> list[dict[str, Any]]:
        from clearflow.automation import schedulers

        found = await schedulers.listing(self._api, scheduler, project)
        return [seen(self._api, each) for each in found]

    async def _remove(
        self, job: str, scheduler: str | None = None, project: str | None = None
    ) -> None:
        from clearflow.automation import schedules

        await schedules.remove(self._api, await self._one(job, scheduler, project))

    async def _active(
        self, job: str, active: bool, scheduler: str | None = None, project: str | None = None
    ) -> None:
        from clearflow.automation import schedules

        there = await self._one(job, scheduler, project)
        await schedules.pause(self._api, there, active=active)

    async def _now(
        self, job: str, scheduler: str | None = None, project: str | None = None
    ) -> dict[str, Any]:
        from clearflow.automation import schedules

        there = await self._one(job, scheduler, project)
        run = await schedules.run_now(self._api, there, by=self._by)
        return {"run": run.id, "url": self._api.connection.run_url(run.id)}

    async def _one(self, job: str, scheduler: str | None, project: str | None) -> Shown:
        from clearflow.automation import schedulers

        return await schedulers.one(self._api, job, scheduler, project)


def seen(api: Api, job: Shown) -> dict[str, Any]:
    """A job as JSON has it; `next` in the zone of the schedule."""
    zone = ZoneInfo(job.zone)
    return {
        "name": job.name,
        "scheduler": job.scheduler.name,
        "project": job.scheduler.project,
        "queue": job.scheduler.queue,
        "when": job.words,
        "timezone": job.zone,
        "what": job.what,
        "active": job.active,
        "missed": job.missed,
        "direct": job.direct,
        "next": [_local(at, zone) for at in job.next],
        "launched": job.number,
        "task": job.task,
        "launch": dict(job.order),
        "url": f"{api.connection.ui_url}/deployments/deployment/{job.schedule.deployment}",
    }


def _local(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).isoformat()
