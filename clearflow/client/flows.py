"""Queueing a decorated Prefect flow, from a program that has Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from clearflow.client.task import Task

if TYPE_CHECKING:
    from prefect import Flow


class HasName(Protocol):
    """A queue as an object."""

    @property
    def name(self) -> str: ...


def enqueue(
    flow: Flow[..., Any],
    queue: str | HasName,
    parameters: Mapping[str, Any] | None = None,
    *,
    project: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    job_variables: Mapping[str, Any] | None = None,
    max_attempts: int | None = None,
    pool: str | None = None,
) -> Task:
    """Queue a decorated Prefect flow as a task; agents of the queue find its file by themselves.

    Args:
        flow: defined at the top level of a file.
        queue: a queue that exists, by name or as an object.
        parameters: the flow's arguments by name, checked here against its types.
        project: a name to group by.
        name: of the task; the flow's without one.
        tags: further tags of the task.
        job_variables: what the task asks of its machine, such as `{"gpus": 1}`.
        max_attempts: how often it is started before its loss is final.
        pool: the work pool of the queue.

    Raises Usage for a flow that no agent could find and for parameters that do not fit,
    NotFound for a queue that does not exist.
    """
    # Prefect is there where a flow is.
    from clearflow._prefect import seam
    from clearflow.capture.owner import owner
    from clearflow.tasks.enqueue import Order, submit
    from clearflow.tasks.source import refuse_while_loading, source

    refuse_while_loading(source(flow).file)
    order = Order(
        flow=flow,
        queue=queue if isinstance(queue, str) else queue.name,
        parameters=parameters or {},
        project=project,
        name=name,
        tags=tags,
        job_variables=job_variables,
        max_attempts=max_attempts,
        pool=pool,
    )
    run = seam.run(lambda api: submit(api, order, by=owner()))
    return Task(run.task_id, run.name)
