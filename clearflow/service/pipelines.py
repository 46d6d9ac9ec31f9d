"""The verbs of the controllers of pipelines: begin, make a step, wait for what happens to steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from clearflow._prefect import pools, runs
from clearflow._prefect.http import Api
from clearflow.queues import drafts
from clearflow.service.steps import seen, watch
from clearflow.service.verbs import Verb
from clearflow.settings import settings
from clearflow.tasks import find as finding
from clearflow.tasks import pipelines, steps
from clearflow.tasks.describe import Selector, latest
from clearflow.tasks.functions import Function
from clearflow.tasks.pipelines import Made, Order
from clearflow.words.models import Run
from clearflow.words.names import CONTROLS, STEP

_LONGEST = 600.0  # seconds that one question waits


class Pipelines:
    """Answers controllers, in the name of `by`."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def verbs(self) -> dict[str, Verb]:
        return {
            "pipeline.begin": self._begin,
            "pipeline.base": self._base,
            "pipeline.step": self._step,
            "pipeline.await": self._await,
            "pipeline.end": self._end,
        }

    async def _begin(self, task: str, queues: Sequence[str] = ()) -> dict[str, Any]:
        """The task is the controller of a pipeline from now on; the steps that it has started.

        Raises NotFound for a queue that does not exist.
        """
        run = await finding.one(self._api, task)
        for name in queues:
            await pools.queue(self._api, run.pool or settings().pool, name)
        await runs.label(self._api, run.id, {CONTROLS: "pipeline"})
        watch(self._api, run.task_id).begin()
        found = await steps.steps(self._api, run.task_id)
        since = await self._since(run)
        known = []
        for each in found.values():
            earlier = since is not None and each.ended is not None and each.ended < since
            known.append({**seen(self._api, each), "earlier": earlier})
        return {"steps": known}

    async def _since(self, run: Run) -> datetime | None:
        """When somebody has queued a pipeline again that had ended; what failed then is tried anew.

        A controller that was lost goes on instead.
        """
        history = await runs.history(self._api, run.id)
        ends = [state.at for state in history if state.final and state.at is not None]
        if runs.hop(run) and run.created is not None:
            ends.append(run.created)
        return max(ends, default=None)

    async def _base(
        self,
        task: str | None = None,
        project: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        statuses: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The task that a step is made from, the latest that fits; with its parameters."""
        if task is not None:
            run = await finding.one(self._api, task)
        else:
            asked = Selector(project, name, None, tuple(tags), tuple(statuses))
            run = await latest(self._api, asked)
        return {"id": run.task_id, "name": run.name, "parameters": dict(run.parameters)}

    async def _step(
        self,
        task: str,
        step: str,
        attempt: int,
        queue: str,
        base: str | None = None,
        function: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        configurations: Mapping[str, str] | None = None,
        variables: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        parents: Sequence[str] = (),
        project: str | None = None,
        cache: bool = False,
        clone: bool = True,
    ) -> dict[str, Any]:
        """Start a step, or find the task that has done the same before."""
        pipeline = await finding.one(self._api, task)
        order = Order(
            step=step,
            attempt=attempt,
            queue=queue,
            base=base,
            function=Function(**function) if function else None,
            parameters=parameters or {},
            configurations=configurations or {},
            variables=variables or {},
            tags=tags,
            parents=parents,
            project=project,
            cache=cache,
        )
        if base is not None and not clone:
            made = await self._as_it_is(pipeline, order, base)
        else:
            made = await pipelines.make(self._api, pipeline, order, by=self._by)
        found = {**seen(self._api, made.run), "step": step, "cached": made.cached}
        return {**found, "node": f"task_run:{made.place}"} if made.cached else found

    async def _as_it_is(self, pipeline: Run, order: Order, base: str) -> Made:
        """Queue the base task itself."""
        place = await pipelines.place(self._api, pipeline, order.step, order.parents)
        run = await finding.one(self._api, base)
        mark = steps.mark(pipeline.task_id)
        if mark not in run.tags:
            await runs.patch(self._api, run.id, tags=[*run.tags, mark])
            await runs.label(self._api, run.id, {STEP: order.step, steps.TRY: order.attempt})
            where = await pools.queue(self._api, run.pool or settings().pool, order.queue)
            fresh = await runs.read(self._api, run.id)
            (run,) = await drafts.enqueue(self._api, [fresh], queue=where, by=self._by)
        return Made(await runs.read(self._api, run.id), place)

    async def _await(self, task: str, after: int = 0, timeout: float = 60.0) -> dict[str, Any]:
        """What has happened to the steps behind the first `after` lines; waits for something."""
        return await watch(self._api, task).changes(after, min(timeout, _LONGEST))

    async def _end(self, task: str) -> None:
        """Nobody waits for the steps any more."""
        watch(self._api, task).end()
