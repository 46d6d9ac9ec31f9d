"""What a pipeline shows of its steps: scalars that are reported again, artifacts that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clearflow.client import door
from clearflow.client.functions import keep
from clearflow.client.pipelines.steps import Step, pairs
from clearflow.client.task import Task
from clearflow.errors import ClearflowError


def fresh(
    wanted: Mapping[tuple[str, str], tuple[str, str]],
    rows: Sequence[Sequence[Any]],
    told: dict[tuple[str, str], tuple[int, float]],
) -> list[tuple[str, str, float, int]]:
    """Of the last values of a step those that are news, up or down; they count as told then."""
    news = []
    for title, series, last, _, _, iteration in rows:
        target = wanted.get((title, series))
        value = (int(iteration), float(last))
        if target is not None and told.get(target) != value:
            told[target] = value
            news.append((*target, value[1], value[0]))
    return news


class Mirror:
    """Looks at the steps that run, and tells the task of the pipeline."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._steps: dict[str, Step] = {}
        self._told: dict[str, dict[tuple[str, str], tuple[int, float]]] = {}

    @property
    def active(self) -> bool:
        return bool(self._steps)

    def begin(self, step: Step) -> None:
        if step.monitor_metrics:
            self._steps[step.name] = step

    def end(self, step: Step) -> None:
        if self._steps.pop(step.name, None) is not None:
            self._look_at(step)

    def look(self) -> None:
        for step in list(self._steps.values()):
            self._look_at(step)

    def _look_at(self, step: Step) -> None:
        if step.executed is None:
            return
        try:
            rows = door.ask("last", task=step.executed)
        except ClearflowError:
            return  # the step says itself what has become of it
        told = self._told.setdefault(step.name, {})
        logger = self._task.get_logger()
        for title, series, value, iteration in fresh(dict(pairs(step.monitor_metrics)), rows, told):
            logger.report_scalar(title, series, value=value, iteration=iteration)

    def keep(self, step: Step) -> None:
        """Keep the artifacts that the pipeline is to have too; those that are there."""
        if not step.monitor_artifacts or step.executed is None:
            return
        known = Task(step.executed, step.name).artifacts
        for each in step.monitor_artifacts:
            name, target = (each, each) if isinstance(each, str) else each
            if name in known:
                keep(self._task, target, known[name].get())
