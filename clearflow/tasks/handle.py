"""The task as people's programs hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from clearflow._prefect import runs, seam
from clearflow._prefect.http import Api
from clearflow.capture.owner import owner
from clearflow.tasks import abort, logs, wait
from clearflow.tasks.enqueue import Order, submit
from clearflow.tasks.source import refuse_while_loading, source
from clearflow.words.models import Run

if TYPE_CHECKING:
    from prefect import Flow


class HasName(Protocol):
    """A queue as an object."""

    @property
    def name(self) -> str: ...


class Task:
    """A task by its id, which stays with it wherever it goes.

    Every method asks the server at once and returns when it has answered.
    """

    def __init__(self, id: str, name: str = "") -> None:
        self.id = id
        self.name = name

    @property
    def task_id(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"Task({self.id!r}, {self.name!r})"

    @property
    def status(self) -> str:
        """draft, scheduled, queued, starting, running, retrying, paused, aborting, completed,
        failed, crashed or aborted.
        """

        async def ask(api: Api) -> str:
            return (await runs.resolve(api, self.id)).status(api.clock.now())

        return seam.run(ask)

    @property
    def url(self) -> str:
        """Where the Prefect UI shows it."""

        async def ask(api: Api) -> str:
            return api.connection.run_url((await runs.resolve(api, self.id)).id)

        return seam.run(ask)

    def wait(self, timeout: float | None = None) -> str:
        """Wait until it has ended; its status then. Raises TimeoutError."""

        async def ask(api: Api) -> str:
            run = await runs.resolve(api, self.id)
            (ended,) = await wait.wait(api, [run], timeout=timeout)
            return ended.status(api.clock.now())

        return seam.run(ask)

    def abort(self) -> None:
        """Abort it: at once while it waits, else by asking its agent. Raises Refused after its end.

        Use `wait` to see it ended.
        """

        async def ask(api: Api) -> None:
            await abort.abort(api, [await runs.resolve(api, self.id)], by=owner())

        seam.run(ask)

    def logs(self, last: int | None = None) -> list[str]:
        """The lines of its console so far; only the `last` ones when asked for."""

        async def ask(api: Api) -> list[str]:
            run = await runs.resolve(api, self.id)
            return [line.message async for line in logs.read(api, run, last)]

        return seam.run(ask)

    @classmethod
    def of(cls, run: Run) -> Task:
        return cls(run.task_id, run.name)


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
    return Task.of(seam.run(lambda api: submit(api, order, by=owner())))
