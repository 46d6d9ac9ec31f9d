"""When a metric comes to be below or above a threshold: again each time, and not as long. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """What one trigger waits for; `key` is its name on events. Any series without a `variant`."""

    key: str
    metric: str
    variant: str | None
    threshold: float
    sign: str
    project: str | None = None

    def holds(self, value: float) -> bool:
        return value <= self.threshold if self.sign == "min" else value >= self.threshold

    def wants(self, title: str, series: str, project: str | None) -> bool:
        """Whether it is about this scalar of a task in this project."""
        asked = title == self.metric and self.variant in {None, series}
        return asked and self.project in {None, project}


@dataclass(frozen=True)
class Crossing:
    """A value with which a condition has come to hold."""

    key: str
    metric: str
    variant: str
    iteration: int
    value: float


class Watch:
    """The conditions of triggers, and whether each held when it was looked at last."""

    def __init__(self) -> None:
        self.conditions: Sequence[Condition] = ()
        self._held: dict[tuple[str, str], bool] = {}

    def look(
        self,
        project: str | None,
        title: str,
        series: str,
        iterations: Sequence[int],
        values: Sequence[float],
    ) -> Iterator[Crossing]:
        """What comes to hold with these values of one scalar, in their order; nan is no value."""
        for each in self.conditions:
            if not each.wants(title, series, project):
                continue
            place = (each.key, series)
            for iteration, value in zip(iterations, values, strict=False):
                if value != value:
                    continue
                holds = each.holds(value)
                if holds and not self._held.get(place):
                    yield Crossing(each.key, title, series, iteration, value)
                self._held[place] = holds
