"""How good trials are: the value of an objective, and the order of the best. Pure.

Also used inside of tasks, so it keeps to Python 3.9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from clearflow.words.curves import Curve

T = TypeVar("T")

MIN, MAX, MIN_GLOBAL, MAX_GLOBAL = "min", "max", "min_global", "max_global"


@dataclass(frozen=True)
class Objective:
    """A scalar that is to be small (`min`) or large (`max`): its last value.

    With `_global` the smallest, or largest, of all its values.
    """

    title: str
    series: str
    sign: Literal["min", "max", "min_global", "max_global"] = "min"

    @property
    def name(self) -> str:
        return f"{self.title}/{self.series}" if self.series else self.title

    @property
    def maximize(self) -> bool:
        return self.sign in (MAX, MAX_GLOBAL)

    def value(self, curve: Curve) -> float | None:
        """What counts of a curve; None when it has no such number."""
        if self.sign == MIN_GLOBAL:
            found = curve.range()[0]
        elif self.sign == MAX_GLOBAL:
            found = curve.range()[1]
        else:
            found = curve.last
        return found if math.isfinite(found) else None

    def reached(self, curve: Curve) -> list[tuple[int, float]]:
        """What would count at each of its iterations, were it the last."""
        best = None
        points = []
        for iteration, value in zip(curve.iterations, curve.values):  # noqa: B905 - Python 3.9
            if not math.isfinite(value):
                continue
            if self.sign in (MIN_GLOBAL, MAX_GLOBAL) and best is not None:
                value = max(best, value) if self.maximize else min(best, value)
            best = value
            points.append((iteration, value))
        return points


def ranked(items: Sequence[tuple[T, Sequence[float]]], objectives: Sequence[Objective]) -> list[T]:
    """The best first; of several objectives those first that no other one beats in all.

    Each item comes with its values, one for each objective; equals keep their order.
    """
    costs = [
        [-v if o.maximize else v for v, o in zip(values, objectives)]  # noqa: B905 - Python 3.9
        for _, values in items
    ]
    left = list(range(len(items)))
    order: list[int] = []
    if len(objectives) == 1:
        order = sorted(left, key=lambda i: costs[i])
    else:
        while left:
            front = [i for i in left if not any(_beats(costs[j], costs[i]) for j in left)]
            order += sorted(front, key=lambda i: costs[i])
            left = [i for i in left if i not in set(front)]
    return [items[i][0] for i in order]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether it is nowhere worse, and somewhere better."""
    pairs = list(zip(one, other))  # noqa: B905 - Python 3.9
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
