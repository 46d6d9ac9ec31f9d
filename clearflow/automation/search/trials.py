"""Trials: tasks that a search has launched. They carry all that it has to know of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clearflow._prefect import events, runs
from clearflow._prefect.http import Api
from clearflow.automation.search.strategies import COMPLETE, Ended
from clearflow.tasks.describe import name_of
from clearflow.tasks.steps import children
from clearflow.words.models import Run
from clearflow.words.names import LAUNCHED, OF_SEARCHES
from clearflow.words.scores import Objective, ranked
from clearflow.words.spaces import Point, Space

NUMBER, POINT = f"{LAUNCHED}.trial", f"{LAUNCHED}.point"
STOPPED = f"{LAUNCHED}.stopped"
"""Why the search has aborted it: written before it does."""
ENDED = f"{LAUNCHED}.ended"
SETTLED = "clearflow.search.settled"
"""The event that the search has noted how a trial ended."""


@dataclass
class Trial:
    """One trial; `heard` is the last iteration that was looked at."""

    number: int
    point: Point
    run: Run
    ended: Ended | None = None
    heard: int = field(default=-1, compare=False)

    @property
    def task(self) -> str:
        return self.run.task_id

    @property
    def stopped(self) -> str:
        """Why the search has aborted it, if it has."""
        return str(self.run.labels.get(STOPPED) or "")

    @classmethod
    def parse(cls, run: Run) -> Trial:
        said = run.labels.get(ENDED)
        ended = Ended.parse(json.loads(said)) if said else None
        return cls(int(run.labels[NUMBER]), json.loads(run.labels[POINT]), run, ended)


def mark(search: str) -> str:
    """The tag of all trials of a search, by its task id."""
    return f"{OF_SEARCHES}{search}"


def links(search: str, number: int, point: Point, reports: bool) -> dict[str, str]:
    """What a launch says about the trial that it makes."""
    said = {"search": search, "trial": str(number), "point": json.dumps(dict(point))}
    return {**said, "reports": "yes"} if reports else said


async def trials(api: Api, search: str) -> list[Trial]:
    """The trials of a search in their order, those that are archived too."""
    found = await children(api, mark(search))
    return sorted(map(Trial.parse, found.values()), key=lambda trial: trial.number)


async def settle(api: Api, search: str, trial: Trial, ended: Ended) -> None:
    """Note how a trial has ended, with its task; and tell those who wait for it."""
    await runs.label(api, trial.run.id, {ENDED: json.dumps(ended.dump())})
    related = {f"prefect.tag.{mark(search)}": "tag", f"prefect.flow-run.{trial.run.id}": "flow-run"}
    await events.emit(api, SETTLED, f"clearflow.task.{trial.task}", related=related)


def best(found: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Those that have come to a value, the best first."""
    good = [t for t in found if t.ended is not None and t.ended.how == COMPLETE]
    return ranked([(t, t.ended.values or ()) for t in good if t.ended is not None], objectives)


def seen(api: Api, trial: Trial, objectives: Sequence[Objective], space: Space) -> dict[str, Any]:
    """A trial as JSON has it."""
    ended = trial.ended
    known = ended.values if ended is not None and ended.values is not None else ()
    return {
        "trial": trial.number,
        "task_id": trial.task,
        "name": name_of(trial.run),
        "status": trial.run.status(api.clock.now()) if ended is None else ended.how,
        "reason": ended.reason if ended else "",
        "iteration": ended.iteration if ended else None,
        "hyper_parameters": space.valued(trial.point) if space.holds(trial.point) else {},
        "metrics": {o.name: v for o, v in zip(objectives, known, strict=False)},
        "url": api.connection.run_url(trial.run.id),
    }
