"""Aborting tasks: waiting ones at once, others through whoever has them; controllers with all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from clearflow._prefect import claims, runs
from clearflow._prefect.holds import label
from clearflow._prefect.http import Api
from clearflow._prefect.many import WIDTH, Progress, each, quiet
from clearflow.errors import NotFound, Refused
from clearflow.tasks.steps import of_controller
from clearflow.words.models import COMPLETED, Run, State
from clearflow.words.names import CONTROLS


async def abort(
    api: Api, tasks: Sequence[Run], *, by: str, progress: Progress = quiet
) -> list[Run]:
    """Abort tasks. Returns their runs as they are then: ended, or `aborting`.

    The steps of a pipeline, and the trials of a search, are aborted with it, and once more by
    whoever records its end.

    Raises Refused for tasks that had ended, after the others were aborted.
    """

    async def one(run: Run) -> Run:
        while True:
            try:
                state = await claims.abort(api, run.id, by)
                fresh = await runs.read(api, run.id)
            except NotFound:
                # It has just gone to another queue, and is aborted there; or it was deleted.
                run = await runs.resolve(api, run.task_id)
                continue
            if state is None:
                raise Refused(f"{label(fresh)} has ended: {fresh.status(api.clock.now())}")
            if CONTROLS in fresh.labels:
                await abort_steps(api, fresh, by=by)
            return fresh

    return await each(tasks, one, progress, width=WIDTH)


async def abort_steps(api: Api, controller: Run, *, by: str) -> None:
    """Abort the steps of a pipeline, or trials of a search, that have not ended."""
    found = await of_controller(api, controller)
    left = [run for run in found.values() if run.state is not None and not run.state.final]

    async def one(run: Run) -> None:
        with suppress(Refused, NotFound):
            await abort(api, [run], by=by)

    await each(left, one, width=WIDTH)


async def abort_orphans(api: Api, controller: str, *, by: str) -> bool:
    """Abort what a task has started, if it is a controller that has ended; whether it has ended.

    For one that Prefect's UI cancels while nobody has it: Prefect ends it by itself then, and
    who records the ends of tasks never hears of it.
    """
    try:
        run = await runs.resolve(api, controller)
    except NotFound:
        return True
    await after_end(api, run, run.state, by=by)
    return run.state is not None and run.state.final


async def after_end(api: Api, run: Run, state: State | None, *, by: str) -> None:
    """To be called by whoever has written `state` at the end of a claim.

    Steps and trials do not outlive the end of their controller, but for one that is to be
    started again, and goes on with them.
    """
    if state is not None and state.final and state.type != COMPLETED and CONTROLS in run.labels:
        await abort_steps(api, run, by=by)
