"""What people see of a search, as artifacts of its task: a table, and two pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from clearflow._prefect import artifacts, runs
from clearflow._prefect.artifacts import MARKDOWN, TABLE
from clearflow._prefect.http import Api
from clearflow.automation.search import trials
from clearflow.automation.search.settings import SearchSettings
from clearflow.automation.search.strategies import COMPLETE
from clearflow.automation.search.trials import Trial
from clearflow.words import drawing, parallel
from clearflow.words.drawing import Axes, Line
from clearflow.words.spaces import LogUniformParameterRange

TRIALS, PARALLEL, PROGRESS = "search-trials", "search-parallel", "search-progress"
_PACE = 50  # trials that a second between two reports is worth


class Report:
    """The report of one search, made anew as trials end."""

    def __init__(self, api: Api, run_id: str, settings: SearchSettings) -> None:
        self._api, self._run_id, self._settings = api, run_id, settings
        self._objectives, self._space = settings.objectives, settings.space
        self._ids: dict[str, str] | None = None
        self._made, self._state = -1e9, ""

    async def make(self, found: Sequence[Trial], *, last: bool) -> None:
        """If there is news, and the last one is some time ago, or it is the last one."""
        state = " ".join(f"{t.number}{t.ended and t.ended.how}" for t in found)
        pause = max(self._settings.report_period_minutes * 60, len(found) / _PACE)
        if (
            not found
            or state == self._state
            or (not last and time.monotonic() - self._made < pause)
        ):
            return
        self._state, self._made = state, time.monotonic()
        best = trials.best(found, self._objectives)
        order = [*best, *(t for t in found if t not in best)]
        rows = [self._row(trial) for trial in order]
        await self._put(TRIALS, TABLE, json.dumps(rows), "**Trials**, the best first")
        if best and (known := [t for t in best if self._space.holds(t.point)]):
            await self._draw(PARALLEL, self._parallel(known), "**Parallel coordinates**")
            await self._draw(PROGRESS, self._progress(found), "**Progress**")
        await runs.label(self._api, self._run_id, self._labels(found, best))

    def _labels(self, found: Sequence[Trial], best: Sequence[Trial]) -> dict[str, Any]:
        ended = sum(trial.ended is not None for trial in found)
        total = self._settings.total_max_jobs
        if self._settings.optimizer == "grid":
            size = self._space.size() or 0
            total = size if total is None else min(size, total)
        said: dict[str, Any] = {}
        if total:
            said["clearflow.progress"] = round(100 * ended / total)
        if best and best[0].ended is not None:
            said["clearflow.property.best task"] = best[0].task
            for each, value in zip(self._objectives, best[0].ended.values or (), strict=False):
                said[f"clearflow.property.best {each.name}"] = value
        return said

    def _row(self, trial: Trial) -> dict[str, Any]:
        seen = trials.seen(self._api, trial, self._objectives, self._space)
        numbers = {name: _short(value) for name, value in seen["metrics"].items()}
        words = {name: _short(value) for name, value in seen["hyper_parameters"].items()}
        return {
            "trial": trial.number,
            "status": seen["status"],
            **{o.name: numbers.get(o.name, "") for o in self._objectives},
            "iteration": "" if seen["iteration"] is None else seen["iteration"],
            **words,
            "task": f"[{trial.task[:8]}]({seen['url']})",
            "reason": seen["reason"],
        }

    def _parallel(self, best: Sequence[Trial]) -> str:
        values = [self._space.valued(trial.point) for trial in best]
        ranges = self._settings.hyper_parameters
        logs = {each.name for each in ranges if isinstance(each, LogUniformParameterRange)}
        axes = [parallel.Axis(n, [v[n] for v in values], n in logs) for n in values[0]]
        for number, each in enumerate(self._objectives):
            ends = [trial.ended for trial in best]
            axes.append(parallel.Axis(each.name, [((e and e.values) or ())[number] for e in ends]))
        shares = [1 - n / max(len(best) - 1, 1) for n in range(len(best))]
        return parallel.parallel("Trials that have come to a value", axes, shares)

    def _progress(self, found: Sequence[Trial]) -> str:
        """The objectives over the trials, and the best so far of each."""
        series = []
        ended = [(trial.number, trial.ended) for trial in found]
        good = [(n, e.values or ()) for n, e in ended if e is not None and e.how == COMPLETE]
        numbers = [number for number, _ in good]
        for place, each in enumerate(self._objectives):
            values = [v[place] for _, v in good]
            choose = max if each.maximize else min
            so_far = [choose(values[: n + 1]) for n in range(len(values))]
            series.append(Line(each.name, numbers, values, joined=False))
            series.append(Line(f"best {each.name}", numbers, so_far))
        return drawing.lines("Objectives", series, Axes(x="trial"))

    async def _draw(self, kind: str, picture: str, words: str) -> None:
        url = drawing.data_uri("image/svg+xml", picture.encode())
        await self._put(kind, MARKDOWN, f"![{kind}]({url})", words)

    async def _put(self, kind: str, type: str, data: str, words: str) -> None:
        if self._ids is None:
            self._ids = {}
            async for each in artifacts.of(self._api, self._run_id, TABLE, MARKDOWN):
                self._ids.setdefault(each.kind, each.id)
        id = self._ids.get(kind)
        if id is None or not await artifacts.update(self._api, id, data, words):
            self._ids[kind] = await artifacts.create(
                self._api, self._run_id, kind, type, data, description=words
            )


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value if value is not None else ""
