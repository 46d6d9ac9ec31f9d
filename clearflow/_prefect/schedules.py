"""Schedules of deployments, and the runs that Prefect makes of them ahead of time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from clearflow import clock
from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.words.models import SCHEDULED, Run

AHEAD = 3
"""So many runs are made at once when a schedule has changed; Prefect makes the others."""
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule of a deployment. `since` is when it was changed last, or switched on."""

    id: str
    deployment: str
    slug: str
    schedule: Mapping[str, Any]
    active: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Schedule:
        return cls(
            id=str(data["id"]),
            deployment=str(data["deployment_id"]),
            slug=data.get("slug") or "",
            schedule=data["schedule"],
            active=bool(data.get("active")),
            parameters=data.get("parameters") or {},
            since=clock.parse(data["updated"]) if data.get("updated") else None,
        )


async def of(api: Api, deployment_id: str) -> list[Schedule]:
    """The schedules of a deployment. Raises NotFound."""
    found = await api.get(f"/deployments/{deployment_id}/schedules")
    return [Schedule.parse(each) for each in found]


async def add(api: Api, deployment_id: str, wanted: Sequence[Mapping[str, Any]]) -> list[Schedule]:
    """New schedules: each has `schedule`, `slug`, `parameters` and `active`."""
    made: list[Schedule] = []
    for start in range(0, len(wanted), _PAGE):
        some = list(wanted[start : start + _PAGE])
        found = await api.post(f"/deployments/{deployment_id}/schedules", some)
        made += [Schedule.parse(each) for each in found]
    return made


async def change(api: Api, there: Schedule, **changes: Any) -> None:
    """Change a schedule. Prefect deletes the deployment's runs that are not due yet.

    It also empties the parameters where none are said: what a schedule launches would be lost.
    """
    body = {"parameters": dict(there.parameters), **changes}
    await api.patch(f"/deployments/{there.deployment}/schedules/{there.id}", body)


async def remove(api: Api, there: Schedule) -> None:
    """Delete a schedule. Prefect deletes every waiting run that any schedule of its deployment
    has made, also those that are due: whoever needs them has to see to it.
    """
    await api.delete(f"/deployments/{there.deployment}/schedules/{there.id}")


async def make_runs(api: Api, deployment_id: str) -> None:
    """Have Prefect make the next runs now, and not when its scheduler comes by."""
    body = {"min_runs": AHEAD, "min_time": 0.0}
    await api.post(f"/deployments/{deployment_id}/schedule", body)


async def coming(api: Api, deployment_id: str) -> AsyncIterator[tuple[str, Run]]:
    """The waiting runs that schedules of a deployment have made, the next one first; with the id
    of the schedule.
    """
    where = {
        "deployment_id": {"any_": [deployment_id]},
        "state": {"type": {"any_": [SCHEDULED]}},
        "created_by": {"type_": ["SCHEDULE"]},
    }
    seen = 0
    while True:
        body = {"flow_runs": where, "sort": runs.BY_PLACE, "limit": _PAGE, "offset": seen}
        page = await api.post("/flow_runs/filter", body)
        for item in page:
            yield str((item.get("created_by") or {}).get("id")), Run.parse(item)
        if len(page) < _PAGE:
            return
        seen += len(page)


async def last(api: Api, schedule_id: str) -> Run | None:
    """The latest run that a schedule has made and that waits no longer."""
    where = {
        "created_by": {"id_": [schedule_id]},
        "state": {"type": {"not_any_": [SCHEDULED]}},
    }
    return await anext(runs.find(api, where, limit=1), None)


async def tagged(api: Api, tags: Sequence[str]) -> list[dict[str, Any]]:
    """The deployments with all of these tags."""
    found: list[dict[str, Any]] = []
    while True:
        body = {"deployments": {"tags": {"all_": list(tags)}}, "limit": _PAGE, "offset": len(found)}
        page = await api.post("/deployments/filter", body)
        found += page
        if len(page) < _PAGE:
            return found
