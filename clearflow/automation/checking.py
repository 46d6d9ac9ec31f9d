"""What is wrong with the order of a launch, said when it is made and not when it is carried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clearflow._prefect import deployments, pools
from clearflow._prefect.http import Api
from clearflow._prefect.template import VARIABLES
from clearflow.automation import launching
from clearflow.automation.launching import Launch
from clearflow.errors import Usage
from clearflow.tasks.describe import name_of
from clearflow.words import launches, templates


async def check(
    api: Api,
    order: Launch,
    known: Mapping[str, Any] | None = None,
    start: launching.Source | None = None,
) -> launching.Source:
    """What it starts from now. Raises what is wrong with an order, in one line.

    `known` are the words and names that its templates may have, as `templates.check` takes them.
    NotFound: no such task, deployment or queue. Usage: a parameter, an override or a reference
    that there is not. `start` is what an order of the same source and queue has been found to
    start from.
    """
    found = start or await launching.source(api, order)
    if order.queue is not None:
        if start is None:
            await pools.queue(api, found.pool, order.queue)
    elif found.run is not None and found.run.queue is None:
        raise Usage(
            f"task {found.run.task_id[:8]} ({found.run.name}) belongs to no queue: name one"
        )
    if known is not None:
        for value in (order.parameters, order.overrides, order.name, order.comment, order.tags):
            templates.check(value, known)
    launches.overrides(order.overrides, VARIABLES)
    if order.parameters:
        await _check_parameters(api, order, found)
    return found


async def _check_parameters(api: Api, order: Launch, found: launching.Source) -> None:
    run, deployment = found.run, found.deployment
    if run is not None and launching.is_flow(run) and run.deployment_id is not None:
        deployment = await deployments.read(api, run.deployment_id)
    has: dict[str, Any] = dict(run.parameters) if run is not None else {}
    schema = (deployment or {}).get("parameter_openapi_schema") or {}
    if run is None or launching.is_flow(run):
        has = {**(schema.get("properties") or {}), **has}
        # What is inside of an argument is the flow's own affair.
        deep = {name for name in order.parameters if "/" in name}
        said = {*order.parameters} - deep | {name.partition("/")[0] for name in deep}
    else:
        said = set(order.parameters)
    who = f"task {run.task_id[:8]} ({name_of(run)})" if run else f"deployment {order.deployment!r}"
    if run is None or launching.is_flow(run):
        launches.check_names(said, has, who)
    else:
        launches.check_parameters(said, has, who)
