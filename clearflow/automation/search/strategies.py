"""Who chooses the points of a search, and stops trials that lead nowhere."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from clearflow.automation.search.settings import SearchSettings
from clearflow.errors import ClearflowError
from clearflow.words.spaces import Point, Space

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"


@dataclass(frozen=True)
class Ended:
    """How a trial has ended: `values` of the objectives where it came so far."""

    how: str
    values: Sequence[float] | None = None
    iteration: int = 0
    reason: str = ""

    def dump(self) -> dict[str, Any]:
        return {
            "how": self.how,
            "values": None if self.values is None else list(self.values),
            "iteration": self.iteration,
            "reason": self.reason,
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Ended:
        return cls(data["how"], data["values"], data["iteration"], data["reason"])


Steps = Sequence[tuple[int, float]]
"""What an objective was at iterations."""


class Strategy(Protocol):
    """Told of all trials by their numbers, in the order of these."""

    def ask(self, number: int) -> Point | None:
        """Where the trial of this number looks; None when there is nothing left to look at."""

    def running(self, number: int, point: Point) -> None:
        """A trial that an earlier controller has started, and that has not ended."""

    def prunes(self, number: int, steps: Steps) -> bool:
        """Hear of new steps of a running trial; whether it is to be stopped."""

    def ended(self, number: int, point: Point, steps: Steps, how: Ended) -> None:
        """A trial has ended, or had ended before."""


class _Deaf:
    """One that learns nothing."""

    def running(self, number: int, point: Point) -> None:
        """Nothing follows from it."""

    def prunes(self, number: int, steps: Steps) -> bool:
        return False

    def ended(self, number: int, point: Point, steps: Steps, how: Ended) -> None:
        """Nothing follows from it."""


class Grid(_Deaf):
    """All points, in their order: the trial's number is the place."""

    def __init__(self, space: Space) -> None:
        space.grid()
        self._space = space

    def ask(self, number: int) -> Point | None:
        return next(itertools.islice(self._space.grid(), number - 1, None), None)


class Random(_Deaf):
    """Points by chance: those of a seed and a number are always the same."""

    def __init__(self, space: Space, seed: str) -> None:
        self._space, self._seed = space, seed

    def ask(self, number: int) -> Point | None:
        return self._space.draw(random.Random(f"{self._seed} {number}"))


def strategy(settings: SearchSettings, name: str, known: int = 0) -> Strategy:
    """The one that these settings want; `known` trials there are already.

    `name` stands for a seed where the settings have none. Raises Usage for a sampler or pruner
    that Optuna does not have.
    """
    chooser: Strategy | None = None
    if settings.optimizer == "grid":
        chooser = Grid(settings.space)
    elif settings.optimizer == "random":
        chooser = Random(settings.space, name if settings.seed is None else str(settings.seed))
    if chooser is not None and settings.pruner is None:
        return chooser
    try:
        from clearflow.automation.search.samplers import Optuna
    except ImportError:
        raise ClearflowError(
            "Optuna is not installed here", hint="pip install 'clearflow[search]'"
        ) from None
    return Optuna(settings, name, known, chooser)
