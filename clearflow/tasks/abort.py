"""Aborting tasks: waiting ones at once, others through whoever has them."""

from __future__ import annotations

from collections.abc import Sequence

from clearflow._prefect import claims, runs
from clearflow._prefect.holds import label
from clearflow._prefect.http import Api
from clearflow._prefect.many import WIDTH, Progress, each, quiet
from clearflow.errors import NotFound, Refused
from clearflow.words.models import Run


async def abort(
    api: Api, tasks: Sequence[Run], *, by: str, progress: Progress = quiet
) -> list[Run]:
    """Abort tasks. Returns their runs as they are then: ended, or `aborting`.

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
            return fresh

    return await each(tasks, one, progress, width=WIDTH)
