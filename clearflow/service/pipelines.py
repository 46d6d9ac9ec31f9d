"""The verbs of the controllers of pipelines: begin, make a step, wait for what happens to steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from clearflow._prefect import pools, runs
from clearflow._prefect.http import Api
from clearflow.errors import Refused
from clearflow.service.steps import seen, watch
from clearflow.service.verbs import Verb
from clearflow.settings import settings
from clearflow.tasks import find as finding
from clearflow.tasks import pipelines, steps
from clearflow.tasks.describe import Selector, latest, name_of
from clearflow.tasks.functions import Function
from clearflow.tasks.origins import Origin
from clearflow.tasks.pipelines import Made, Order
from clearflow.words.lifecycle import is_draft
from clearflow.words.models import Run
from clearflow.words.names import ASKS, CONTROLS, STEP
from clearflow.words.parameters import merged

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
        origin: Mapping[str, Any] | None = None,
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
            origin=Origin(**origin) if origin else None,
        )
        if base is not None and not clone:
            made = await self._as_it_is(pipeline, order, base)
        else:
            made = await pipelines.make(self._api, pipeline, order, by=self._by)
        found = {**seen(self._api, made.run), "step": step, "cached": made.cached}
        return {**found, "node": f"task_run:{made.place}"} if made.cached else found

    async def _as_it_is(self, pipeline: Run, order: Order, base: str) -> Made:
        """Queue the base task itself, with all that the step says; each try once.

        Raises Refused for one that is no draft, unless it is queued for a further try.
        """
        # Not at the top: who starts a task does not wait for pydantic.
        from clearflow.automation import launching
        from clearflow.automation.launching import Launch

        place = await pipelines.place(self._api, pipeline, order.step, order.parents)
        run = await finding.one(self._api, base)
        mark = steps.mark(pipeline.task_id)
        mine = mark in run.tags and run.labels.get(STEP) == order.step
        if not mine and not is_draft(run):
            raise Refused(
                f"task {run.task_id[:8]} ({name_of(run)}) is no draft, so it cannot be the step",
                hint="clone_base_task=True makes a copy of it",
            )
        if not mine or int(run.labels.get(steps.TRY) or 1) < order.attempt:
            said: dict[str, Any] = {
                f"clearflow.configuration.{k}": v for k, v in order.configurations.items()
            }
            said |= {STEP: order.step, steps.TRY: order.attempt}
            if changes := await pipelines.changed(self._api, run, order):
                said[ASKS] = json.dumps({**json.loads(run.labels.get(ASKS) or "{}"), **changes})
            parameters = merged(run.parameters, order.parameters)
            own = list(dict.fromkeys([*run.tags, *order.tags, mark]))
            await runs.patch(self._api, run.id, tags=own, parameters=parameters)
            await runs.label(self._api, run.id, said)
        # The key of a try is in the state that queues it: asked again, it is not queued again.
        key = f"{pipeline.task_id}:{order.step}:{order.attempt}"
        launch = Launch(task=run.task_id, queue=order.queue, reuse=True, key=key)
        await launching.launch(self._api, launch, by=self._by)
        return Made(await finding.one(self._api, run.task_id), place)

    async def _await(self, task: str, after: int = 0, timeout: float = 60.0) -> dict[str, Any]:
        """What has happened to the steps behind the first `after` lines; waits for something."""
        return await watch(self._api, task).changes(after, min(timeout, _LONGEST))

    async def _end(self, task: str) -> None:
        """Nobody waits for the steps any more."""
        watch(self._api, task).end()
