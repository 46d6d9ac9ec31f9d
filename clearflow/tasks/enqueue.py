"""Queueing a decorated Prefect flow as a task."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clearflow._prefect import deployments, pools, runs
from clearflow._prefect.http import Api
from clearflow.errors import NotFound, Usage
from clearflow.settings import settings
from clearflow.tasks.source import Source, source
from clearflow.words import lifecycle
from clearflow.words.models import Run
from clearflow.words.names import DEPLOYMENT, flow_name, labels, stored, tags
from clearflow.words.notes import Note

if TYPE_CHECKING:
    from prefect import Flow

_LARGEST = 500_000  # bytes of parameters; Prefect takes 512 KB


@dataclass(frozen=True, slots=True)
class Order:
    """A task to be queued: what to run, and under which names."""

    flow: Flow[..., Any]
    queue: str
    parameters: Mapping[str, Any]
    project: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    job_variables: Mapping[str, Any] | None = None
    max_attempts: int | None = None
    pool: str | None = None

    @property
    def shown_name(self) -> str:
        return self.name or self.flow.name

    @property
    def flow_name(self) -> str:
        """The name of the Prefect flow: one for each project and name."""
        if self.project is None:
            return stored(self.flow.name)
        return flow_name(self.project, self.shown_name)


# The deployments that this process knows, so that queueing again is one request.
_known: dict[tuple[str, str, str, str, Source], dict[str, Any]] = {}


async def submit(api: Api, order: Order, *, by: str) -> Run:
    """Queue a task at the back of its queue.

    The deployment it can be started from again is made on first use. Raises Usage for a flow
    that no agent could find and for parameters that do not fit it, NotFound for a queue that does
    not exist.
    """
    where = source(order.flow)
    parameters = _checked(order)
    pool = order.pool or settings().pool
    key = (api.connection.url, pool, order.queue, order.flow_name, where)
    for _ in range(2):
        if key not in _known:
            await pools.queue(api, pool, order.queue)
            _known[key] = await _deploy(api, order, pool, where)
        try:
            return await _create(api, order, _known[key], parameters, by)
        except NotFound:
            # Somebody has deleted the deployment since.
            del _known[key]
    raise NotFound(f"the deployment of {order.flow_name!r} is deleted again and again")


async def _create(
    api: Api, order: Order, of: Mapping[str, Any], parameters: Mapping[str, Any], by: str
) -> Run:
    job = dict(order.job_variables or {})
    if order.max_attempts is not None:
        job["max_attempts"] = order.max_attempts
    return await runs.create(
        api,
        of,
        # Since when it waits is told by the server, which knows the time.
        write=lifecycle.queued(Note(f"queued by {by}", by=by)),
        name=order.shown_name,
        queue=stored(order.queue),
        parameters=parameters,
        job_variables=job,
        tags=[*order.tags, *tags(order.project, by)],
        labels=labels(order.shown_name, order.project),
    )


async def _deploy(api: Api, order: Order, pool: str, where: Source) -> dict[str, Any]:
    """The deployment for this source, made when it is not there or is out of date."""
    from prefect.utilities.callables import parameter_schema

    schema = parameter_schema(order.flow).model_dump_for_openapi()
    name = DEPLOYMENT
    try:
        found = await deployments.by_name(api, order.flow_name, name)
    except NotFound:
        found = None
    if found is not None:
        if _same_source(found, where):
            if found["parameter_openapi_schema"] == schema and found["work_queue_id"]:
                return found
        else:
            # Tasks that wait for the other file's flow of this name must go on finding it.
            digest = hashlib.sha256(f"{where.folder}\0{where.entrypoint}".encode()).hexdigest()
            name = f"{DEPLOYMENT}-{digest[:8]}"
    return await deployments.ensure(
        api,
        flow=order.flow_name,
        name=name,
        pool=pool,
        queue=stored(order.queue),
        entrypoint=where.entrypoint,
        path=where.folder,
        parameters_schema=schema,
        tags=tags(order.project),
        labels=labels(order.shown_name, order.project),
        description=order.flow.description,
    )


def _same_source(found: Mapping[str, Any], where: Source) -> bool:
    return (found["path"], found["entrypoint"]) == (where.folder, where.entrypoint)


def _checked(order: Order) -> dict[str, Any]:
    """The parameters as JSON, checked against the flow's types. Raises Usage."""
    from prefect.exceptions import ParameterBindError, ParameterTypeError, SignatureMismatchError

    flow, given = order.flow, dict(order.parameters)
    # The error is reported by raising it, once.
    log = logging.getLogger("prefect.flows")
    silent, log.disabled = log.disabled, True
    try:
        flow.validate_parameters(given)
    except (ParameterBindError, ParameterTypeError, SignatureMismatchError) as error:
        said = " ".join(str(error).split())
        raise Usage(f"the parameters do not fit the flow {flow.name!r}: {said}") from None
    finally:
        log.disabled = silent
    sent = flow.serialize_parameters(given)
    for key, value in given.items():
        # What Prefect cannot send it replaces by the name of its type.
        if sent.get(key) == f"<{type(value).__name__}>" and not isinstance(value, str):
            raise Usage(
                f"the parameter {key!r} cannot be sent as JSON: it is a {type(value).__name__}",
                hint="send what it is made from, such as a path or numbers",
            )
    size = len(json.dumps(sent))
    if size > _LARGEST:
        raise Usage(
            f"the parameters are too large: {size:,} bytes, and Prefect takes {_LARGEST:,}",
            hint="send a path or an address instead of the data",
        )
    return sent
