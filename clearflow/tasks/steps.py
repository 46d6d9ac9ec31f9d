"""Which tasks are the steps of a pipeline, and the trials of a search."""

from __future__ import annotations

from collections.abc import Sequence

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.words.models import Run
from clearflow.words.names import CONTROLS, OF_SEARCHES, OF_STEPS, SEARCH, STEP

TRY = f"{STEP}.try"


def mark(pipeline: str) -> str:
    """The tag of all steps of a pipeline, by the task id of its controller."""
    return f"{OF_STEPS[0]}{pipeline}"


def controllers(tags: Sequence[str]) -> list[str]:
    """The task ids of those that have started a task: a pipeline, or a search."""
    kinds = (OF_STEPS[0], OF_SEARCHES)
    return [tag.removeprefix(kind) for tag in tags for kind in kinds if tag.startswith(kind)]


async def steps(api: Api, pipeline: str) -> dict[str, Run]:
    """The steps that a pipeline has started, by their task ids, in the runs that they have now."""
    return await children(api, mark(pipeline))


async def of_controller(api: Api, run: Run) -> dict[str, Run]:
    """What a controller has started: the steps of a pipeline, the trials of a search."""
    if run.labels.get(CONTROLS) == SEARCH:
        return await children(api, f"{OF_SEARCHES}{run.task_id}")
    return await steps(api, run.task_id)


async def children(api: Api, tag: str) -> dict[str, Run]:
    """The tasks with this tag, by their ids, in the runs that they have now."""
    found: dict[str, Run] = {}
    async for run in runs.find(api, {"tags": {"all_": [tag]}}):
        other = found.get(run.task_id)
        # One that is just being moved to another queue has two runs for a moment.
        if other is None or runs.hop(run) > runs.hop(other):
            found[run.task_id] = run
    return found
