"""Metrics that triggers wait for, seen where they pass: in the supervisor of the task.

Of a flow, or a task that nobody runs, it is whoever writes them down. Nobody has to ask the server
for values now and then. A task that reports scalars asks once which
triggers wait for any, and again a minute later if it still reports; it tells of a crossing only
when there is one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from clearflow._prefect import automations, runs
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError
from clearflow.tasks import telling
from clearflow.words.crossings import Condition, Crossing, Watch
from clearflow.words.models import Run
from clearflow.words.triggers import METRIC, METRICS, metric_key

AGAIN = 60.0
"""Seconds after which a task that still reports asks again who waits for what."""

Scalars = Sequence[tuple[str, str, Sequence[int], Sequence[Any]]]


class Crossings:
    """The scalars of one task on their way past the triggers. `say` hears what went wrong."""

    def __init__(self, api: Api, run_id: str, say: Callable[[str], None]) -> None:
        self._api, self._run_id, self._say = api, run_id, say
        self._watch = Watch()
        self._passing: deque[tuple[str, str, list[int], list[float]]] = deque()
        self._run: Run | None = None
        self._asked: float | None = None
        self._looking: asyncio.Task[None] | None = None

    def take(self, scalars: Scalars) -> None:
        """Look at columns of scalars (title, series, iterations, values). Returns at once."""
        known = self._asked is not None and time.monotonic() - self._asked < AGAIN
        if known and not self._watch.conditions:
            return
        self._passing.extend(
            (str(title), str(series), list(map(int, at)), list(map(float, values)))
            for title, series, at, values in scalars
        )
        if self._passing and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look())

    async def told(self) -> None:
        """Until all that was taken has been looked at, and told."""
        if self._looking is not None:
            await self._looking

    async def _look(self) -> None:
        try:
            if self._asked is None or time.monotonic() - self._asked >= AGAIN:
                await self._ask()
            while self._passing:
                title, series, at, values = self._passing.popleft()
                project = self._project()
                for each in self._watch.look(project, title, series, at, values):
                    await self._tell(each)
        except ClearflowError as error:
            self._say(f"Triggers of metrics could not be told: {error.message}")

    async def _ask(self) -> None:
        found = await automations.tagged(self._api, [METRICS])
        self._asked = time.monotonic()
        self._watch.conditions = [
            condition for each in found if each.enabled and (condition := _condition(each))
        ]
        if self._watch.conditions and self._run is None:
            self._run = await runs.read(self._api, self._run_id)

    def _project(self) -> str | None:
        run = self._run
        return str(run.labels.get("clearflow.project") or run.project) if run else None

    async def _tell(self, each: Crossing) -> None:
        run = await runs.read(self._api, self._run_id)
        more = {
            "trigger": each.key,
            "metric": each.metric,
            "variant": each.variant,
            "iteration": each.iteration,
            "value": each.value,
        }
        await telling.tell(self._api, run, METRIC, by=run.owner or "", more=more)


def _condition(automation: automations.Automation) -> Condition | None:
    """What the trigger of an automation waits for; None for one that is not ours."""
    reaction: Mapping[str, Any] = automation.parameters.get("reaction") or {}
    try:
        asked = json.loads(reaction["trigger"]["value"])
        return Condition(
            metric_key(reaction["group"], asked["name"]),
            asked["metric"],
            asked.get("variant"),
            float(asked["threshold"]),
            asked.get("sign", "min"),
            asked.get("project"),
        )
    except (KeyError, TypeError, ValueError):
        return None


_passed: WeakKeyDictionary[Api, dict[str, Crossings]] = WeakKeyDictionary()


def crossings(api: Api, run_id: str) -> Crossings:
    """The ones of a run of which this process has seen the scalars before, if any."""
    known = _passed.setdefault(api, {})
    if run_id not in known:
        # Nobody hears of what went wrong: what is reported is kept all the same.
        known[run_id] = Crossings(api, run_id, lambda text: None)
    return known[run_id]
