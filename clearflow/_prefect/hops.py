"""Hops: a task goes to another queue, which Prefect allows no run to do.

The task gets a new run there, and the old one is deleted. The task's id stays: it is that of its
first run, and the later ones carry it as a tag. The new run's idempotency key is
`<task id>:<number of the hop>`, so a hop that is done twice makes one run, and whoever meets the
old run beside the new one deletes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from clearflow._prefect import artifacts, logs, runs
from clearflow._prefect.holds import Held, exclusively, label, unbroken
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError, Conflict, Unreachable
from clearflow.words import lifecycle
from clearflow.words.lifecycle import Write
from clearflow.words.models import PAUSED, PENDING, Queue, Run
from clearflow.words.names import HERE, stored


async def hop(held: Held, queue: Queue, place: datetime | None, text: str) -> Run:
    """A held task into another queue of its pool. The task's new run."""
    if not held.fresh:
        raise Conflict(f"the move of {label(held.run)} took too long: nothing was changed")
    write = lifecycle.returned(held.note, place, text)
    return await unbroken(_hop(held, queue, write))


async def _hop(held: Held, queue: Queue, write: Write) -> Run:
    try:
        new = await _successor(held.api, held.run, queue, write)
    except ClearflowError as error:
        # The new run may exist all the same; as long as nobody knows, the old one stays held,
        # and the sweepers, who ask `finish_hops`, see to it.
        held.gone = True
        if not isinstance(error, Unreachable):
            held.gone = await finish_hops(held.api, held.run)
        raise
    await held.drop()
    return new


async def hop_draft(api: Api, run: Run, queue: Queue, write: Write, by: str) -> Run:
    """A draft, or a task that has ended, queued in another queue than its own."""
    await exclusively(api, run, by)

    async def both() -> Run:
        new = await _successor(api, run, queue, write)
        await runs.delete(api, run.id)
        return new

    return await unbroken(both())


async def send_away(
    api: Api,
    run: Run,
    template: Mapping[str, Any],
    job: Mapping[str, Any],
    write: Write,
    *,
    queue: str | None,
    clone: bool,
) -> Run:
    """A task that its caller runs here, for an agent to run; with `clone` a new task like it."""
    task = run.task_id
    tags = [t for t in run.tags if t != HERE and not t.startswith("task:")]
    key = None if clone else f"{task}:{runs.hop(run) + 1}"

    async def both() -> Run:
        new = await runs.create(
            api,
            template,
            write=write,
            name=run.name,
            queue=stored(queue) if queue is not None else None,
            parameters=run.parameters,
            job_variables=job,
            tags=tags if clone else [*tags, f"task:{task}"],
            labels={**run.labels, "clearflow.parent": task} if clone else run.labels,
            idempotency_key=key,
        )
        if not clone:
            await _keep(api, run, new)
            await runs.delete(api, run.id)
        return new

    return await unbroken(both())


async def finish_hops(api: Api, run: Run) -> bool:
    """Finish a hop that stopped halfway: True when the task lives on in another run.

    For a run that somebody holds, or held and left, and for drafts; for any other run it does
    nothing. Whoever puts such a run back into its line must have asked this first.
    """
    state = run.state
    if state is None or state.type not in {PENDING, PAUSED} or state.note.agent is not None:
        return False
    key = f"{run.task_id}:{runs.hop(run) + 1}"
    found = runs.find(api, {"idempotency_key": {"any_": [key]}}, limit=1)
    if await anext(found, None) is None:
        return False
    await runs.delete(api, run.id)
    return True


async def _successor(api: Api, run: Run, queue: Queue, write: Write) -> Run:
    task = run.task_id
    key = f"{task}:{runs.hop(run) + 1}"
    tags = [t for t in run.tags if not t.startswith("task:")] + [f"task:{task}"]
    if run.deployment_id is None:
        new = await runs.create_bare(
            api, run, write, pool=queue.pool, queue=stored(queue.name), tags=tags, key=key
        )
    else:
        new = await runs.create(
            api,
            runs.like(run),
            write=write,
            name=run.name,
            queue=stored(queue.name),
            parameters=run.parameters,
            job_variables=run.job_variables,
            tags=tags,
            labels=run.labels,
            idempotency_key=key,
            policy=run.policy,
            task_run=run.task_run,
        )
    if new.queue != stored(queue.name):
        raise Conflict(f"{label(run)} has just been moved to the queue {new.queue_shown!r}")
    if run.run_count:
        await _keep(api, run, new)
    return new


async def _keep(api: Api, run: Run, new: Run) -> None:
    """What there is of an earlier attempt, which nobody finds when its run is deleted."""
    await logs.copy(api, run.id, new.id)
    await artifacts.copy(api, run.id, new.id)
