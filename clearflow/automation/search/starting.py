"""Starting searches: what can be said before the first trial, and their tasks."""

from __future__ import annotations

from typing import Any

from clearflow._prefect import deployments, pools, runs
from clearflow._prefect.http import Api
from clearflow.automation import checking, launching
from clearflow.automation.forms import form
from clearflow.automation.launching import Launch
from clearflow.automation.search import trials
from clearflow.automation.search.settings import SearchSettings
from clearflow.automation.search.strategies import strategy
from clearflow.errors import NotFound, Usage
from clearflow.settings import settings as ours
from clearflow.tasks import find as finding
from clearflow.tasks import results
from clearflow.tasks.describe import name_of
from clearflow.words import lifecycle
from clearflow.words.models import Run
from clearflow.words.names import DEPLOYMENT, flow_name, labels, stored, tags
from clearflow.words.notes import Note

ENTRYPOINT = "clearflow.apps.search.search"
TAG = "clearflow:app:search"
ATTEMPTS = 100
"""A search goes on where it was: what kills its controller now and then does no harm."""


async def check(api: Api, settings: SearchSettings, *, queue_later: bool = False) -> list[str]:
    """What may be wrong with a search, a line for each.

    With `queue_later` somebody will say yet where the trials run.

    Raises what is wrong for sure: NotFound for a task or queue that there is not, Usage for a
    parameter that the base task does not have, and for a sampler or pruner that Optuna has not.
    """
    space = settings.space
    example = space.valued({name: axis.low for name, axis in space.axes.items()})
    order = Launch(
        task=settings.base_task_id,
        queue=settings.execution_queue,
        parameters=example,
        overrides=settings.task_overrides,
    )
    source = await launching.source(api, order)
    assert source.run is not None
    if settings.execution_queue is None and queue_later:
        await checking.check(api, order.model_copy(update={"queue": "later"}), start=source)
    else:
        await checking.check(api, order)
    strategy(settings, "check")
    for search in settings.continue_from:
        if not await trials.trials(api, (await finding.one(api, search)).task_id):
            raise Usage(f"task {search} is no search that has had trials")
    return await _doubts(api, source.run, settings)


async def _doubts(api: Api, base: Run, settings: SearchSettings) -> list[str]:
    known = {(each.title, each.series) for each in await results.last(api, base.id)}
    has = ", ".join("/".join(key) for key in sorted(known)[:10]) or "nothing at all"
    return [
        f"the base task {name_of(base)!r} has never reported {each.name!r}; it has reported {has}"
        for each in settings.objectives
        if (each.title, each.series) not in known
    ]


def parameters(settings: SearchSettings) -> dict[str, Any]:
    """Those of the search's task."""
    return {"settings": settings.model_dump(mode="json")}


async def start(
    api: Api, settings: SearchSettings, *, name: str, project: str, queue: str, by: str
) -> Run:
    """Queue a search: a task that agents of this queue run. Raises as `check`."""
    await check(api, settings)
    pool = ours().pool
    await pools.queue(api, pool, queue)
    made = await deployments.ensure(
        api,
        flow=flow_name(project, name),
        name=DEPLOYMENT,
        pool=pool,
        queue=stored(queue),
        entrypoint=ENTRYPOINT,
        parameters=parameters(settings),
        parameters_schema=form("settings", SearchSettings),
        tags=[TAG, *tags(project)],
        labels=labels(name, project),
        description="Searches parameters: its trials are copies of a task.",
        job_variables={"gpus": 0, "max_attempts": ATTEMPTS},
    )
    return await runs.create(
        api,
        made,
        write=lifecycle.queued(Note(f"launched by {by}", by=by)),
        name=name,
        queue=stored(queue),
        parameters=parameters(settings),
        tags=tags(project, by),
        labels=labels(name, project),
    )


async def settings_of(api: Api, search: str) -> tuple[Run, SearchSettings]:
    """The task of a search, and what it was told. Raises NotFound for another task."""
    run = await finding.one(api, search)
    said = run.parameters.get("settings") or run.parameters.get("Search")
    if not isinstance(said, dict) or "hyper_parameters" not in said:
        raise NotFound(f"task {run.task_id[:8]} ({name_of(run)}) is no search")
    return run, SearchSettings.model_validate(said)
