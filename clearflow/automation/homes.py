"""Where schedules and triggers live: a deployment on the services queue for each group of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from clearflow._prefect import deployments, pools
from clearflow._prefect.http import Api
from clearflow.automation.forms import form
from clearflow.errors import NotFound, Refused
from clearflow.settings import settings
from clearflow.words.names import DEPLOYMENT, labels, shown, stored, tags


class Parameter(Protocol):
    """What the flow is told: a model that knows its shortest form."""

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""


@dataclass(frozen=True)
class Home:
    """A kind of group: the flow that is woken, its one parameter, and what people read."""

    entrypoint: str
    parameter: str
    model: type[BaseModel]
    tag: str
    description: str


async def ensure(
    api: Api, kind: Home, told: Parameter, *, flow: str, name: str, project: str, queue: str
) -> tuple[dict[str, Any], bool]:
    """The deployment of a group, and whether it was made just now.

    Raises Refused when it belongs to another queue.
    """
    pool = settings().pool
    await pools.ensure_queue(api, pool, queue)
    try:
        known = await deployments.by_name(api, flow, DEPLOYMENT)
    except NotFound:
        pass
    else:
        if known.get("work_queue_name") not in {None, stored(queue)}:
            raise Refused(
                f"{name!r} of {project!r} belongs to the queue {shown(known['work_queue_name'])!r}",
                hint="remove it first, or use that queue",
            )
        return known, False
    made = await deployments.ensure(
        api,
        flow=flow,
        name=DEPLOYMENT,
        pool=pool,
        queue=stored(queue),
        entrypoint=kind.entrypoint,
        parameters={kind.parameter: told.dump()},
        parameters_schema=form(kind.parameter, kind.model),
        tags=[kind.tag, *tags(project)],
        labels=labels(name, project),
        description=kind.description,
        job_variables={"gpus": 0},
    )
    return made, True
