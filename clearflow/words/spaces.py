"""Where a search looks: ranges and choices of parameters, under ClearML's names. Pure.

Each is an axis, and a point has a coordinate on every axis: a number of a range, the exponent of a
logarithmic one, the place of a choice. What a task gets for a coordinate says `valued`.

Also used inside of tasks, so it keeps to Python 3.9.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from clearflow.errors import Usage
from clearflow.words.parameters import GENERAL, plain

FLOAT, INT, CHOICE = "float", "int", "choice"
_CLOSE = 1e-9  # of a step: 0.1 + 0.2 is not 0.3


@dataclass(frozen=True)
class Axis:
    """The coordinates that there are, from `low` to `high`, both among them."""

    kind: str
    low: float
    high: float
    step: float | None = None

    def places(self) -> list[Any] | None:
        """All of them; None when there is no end of them."""
        if self.step is None:
            return [self.low] if self.low == self.high else None
        count = math.floor((self.high - self.low) / self.step + _CLOSE) + 1
        return [self._typed(self.low + n * self.step) for n in range(count)]

    def draw(self, source: random.Random) -> Any:
        """One by chance, each as likely as any other."""
        places = self.places()
        return source.uniform(self.low, self.high) if places is None else source.choice(places)

    def holds(self, coordinate: Any) -> bool:
        if isinstance(coordinate, bool) or not isinstance(coordinate, (int, float)):
            return False
        return self.low <= coordinate <= self.high

    def _typed(self, value: float) -> Any:
        return float(value) if self.kind == FLOAT else round(value)


@dataclass(frozen=True)
class UniformParameterRange:
    """Any number from `min_value` to `max_value`, or with a `step_size` every so many."""

    name: str
    min_value: float
    max_value: float
    step_size: float | None = None
    include_max_value: bool = True
    kind: Literal["uniform"] = "uniform"

    def __post_init__(self) -> None:
        _check_range(self.name, self.min_value, self.max_value, self.step_size)
        _float_axis(self)

    @property
    def axis(self) -> Axis:
        return _float_axis(self)

    def valued(self, coordinate: Any) -> dict[str, Any]:
        return {self.name: float(coordinate)}


@dataclass(frozen=True)
class LogUniformParameterRange:
    """`base` to the power of any number from `min_value` to `max_value`: these are exponents."""

    name: str
    min_value: float
    max_value: float
    base: float = 10
    step_size: float | None = None
    include_max_value: bool = True
    kind: Literal["log_uniform"] = "log_uniform"

    def __post_init__(self) -> None:
        _check_range(self.name, self.min_value, self.max_value, self.step_size)
        if not self.base > 0 or self.base == 1:
            raise Usage(f"{self.name}: there are no powers of {self.base:g} to choose from")
        _float_axis(self)
        for exponent in (self.min_value, self.max_value):
            try:
                fits = math.isfinite(float(self.base) ** exponent)
            except OverflowError:
                fits = False
            if not fits:
                raise Usage(
                    f"{self.name}: {self.base:g} to the power of {exponent:g} is no number",
                    hint="min_value and max_value are exponents: -4 and -1 for 0.0001 to 0.1",
                )

    @property
    def axis(self) -> Axis:
        return _float_axis(self)

    def valued(self, coordinate: Any) -> dict[str, Any]:
        return {self.name: float(self.base) ** float(coordinate)}


@dataclass(frozen=True)
class UniformIntegerParameterRange:
    """Any whole number from `min_value` to `max_value`, or every so many."""

    name: str
    min_value: int
    max_value: int
    step_size: int = 1
    include_max_value: bool = True
    kind: Literal["integer"] = "integer"

    def __post_init__(self) -> None:
        _check_range(self.name, self.min_value, self.max_value, self.step_size)
        for number in (self.min_value, self.max_value, self.step_size):
            if number != int(number):
                raise Usage(f"{self.name}: {number!r} is no whole number")
        if self.axis.high < self.axis.low:
            raise _empty(self.name, self.min_value, self.max_value)

    @property
    def axis(self) -> Axis:
        step = int(self.step_size)
        count = (int(self.max_value) - int(self.min_value)) // step
        high = int(self.min_value) + count * step
        if not self.include_max_value and high == self.max_value:
            high -= step
        return Axis(INT, int(self.min_value), high, step)

    def valued(self, coordinate: Any) -> dict[str, Any]:
        return {self.name: int(coordinate)}


@dataclass(frozen=True)
class DiscreteParameterRange:
    """One of these values, which may be anything that JSON knows."""

    name: str
    values: list[Any]
    kind: Literal["discrete"] = "discrete"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", plain(list(self.values)))
        if not self.values:
            raise Usage(f"{self.name}: there is no value to choose")

    @property
    def axis(self) -> Axis:
        return Axis(CHOICE, 0, len(self.values) - 1, 1)

    def valued(self, coordinate: Any) -> dict[str, Any]:
        return {self.name: self.values[int(coordinate)]}


@dataclass(frozen=True)
class ParameterSet:
    """One of these combinations: values of several parameters that belong together."""

    parameter_combinations: list[dict[str, Any]]
    kind: Literal["set"] = "set"

    def __post_init__(self) -> None:
        combinations = [dict(each) for each in self.parameter_combinations]
        if not combinations or not combinations[0]:
            raise Usage("a ParameterSet without combinations leaves nothing to choose")
        for each in combinations:
            if set(each) != set(combinations[0]):
                raise Usage(
                    f"the combinations of a ParameterSet differ in their parameters:"
                    f" {', '.join(sorted(combinations[0]))}, and {', '.join(sorted(each))}"
                )
            if any(isinstance(value, RANGES) for value in each.values()):
                raise Usage("a ParameterSet holds values: put ranges beside it")
        object.__setattr__(self, "parameter_combinations", plain(combinations))

    @property
    def name(self) -> str:
        return " + ".join(self.parameter_combinations[0])

    @property
    def axis(self) -> Axis:
        return Axis(CHOICE, 0, len(self.parameter_combinations) - 1, 1)

    def valued(self, coordinate: Any) -> dict[str, Any]:
        return dict(self.parameter_combinations[int(coordinate)])


Parameter = Union[  # noqa: UP007 - Python 3.9
    UniformParameterRange,
    LogUniformParameterRange,
    UniformIntegerParameterRange,
    DiscreteParameterRange,
    ParameterSet,
]
RANGES = (
    UniformParameterRange,
    LogUniformParameterRange,
    UniformIntegerParameterRange,
    DiscreteParameterRange,
    ParameterSet,
)
Point = Mapping[str, Any]
"""A coordinate for each parameter, by its name."""


class Space:
    """All the parameters of a search. Raises Usage for none, and for one that is there twice."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        if not parameters:
            raise Usage("a search needs parameters to look for")
        self.parameters = tuple(parameters)
        self.axes = {each.name: each.axis for each in parameters}
        known: set[str] = set()
        for each in parameters:
            for name in each.valued(each.axis.low):
                if _whole(name) in known:
                    raise Usage(f"the parameter {name!r} is there twice")
                known.add(_whole(name))

    def valued(self, point: Point) -> dict[str, Any]:
        """What a task at this point gets, by the names of its parameters."""
        found: dict[str, Any] = {}
        for each in self.parameters:
            found.update(each.valued(point[each.name]))
        return found

    def holds(self, point: Point) -> bool:
        """Whether it is a point of this space."""
        return set(point) == set(self.axes) and all(
            axis.holds(point[name]) for name, axis in self.axes.items()
        )

    def draw(self, source: random.Random) -> dict[str, Any]:
        """A point by chance."""
        return {name: axis.draw(source) for name, axis in self.axes.items()}

    def grid(self) -> Iterator[dict[str, Any]]:
        """All points in their order. Raises Usage, at once, where there is no end of them."""
        every = [places_of(name, axis) for name, axis in self.axes.items()]
        return (dict(zip(self.axes, each)) for each in itertools.product(*every))  # noqa: B905

    def size(self) -> int | None:
        """How many points there are; None for no end of them."""
        found = [axis.places() for axis in self.axes.values()]
        if any(places is None for places in found):
            return None
        return math.prod(len(places or ()) for places in found)


def places_of(name: str, axis: Axis) -> list[Any]:
    places = axis.places()
    if places is None:
        raise Usage(
            f"a grid goes through all values of {name}, and there is no end of them",
            hint="give it a step_size, or list its values in a DiscreteParameterRange",
        )
    return places


def dump(parameter: Parameter) -> dict[str, Any]:
    """As JSON has it."""
    return {key: plain(value) for key, value in vars(parameter).items()}


def _whole(name: str) -> str:
    return name if "/" in name else f"{GENERAL}/{name}"


def _check_range(name: str, low: float, high: float, step: float | None) -> None:
    if not name:
        raise Usage("a parameter needs a name, such as General/lr")
    for number in (low, high, *(() if step is None else (step,))):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise Usage(f"{name}: {number!r} is no number")
        if not math.isfinite(number):
            raise Usage(f"{name}: {number!r} is no end of a range")
    if step is not None and step <= 0:
        raise Usage(f"{name}: a step of {step:g} leads nowhere")
    if low > high:
        raise _empty(name, low, high)


def _float_axis(each: UniformParameterRange | LogUniformParameterRange) -> Axis:
    low, high, step = float(each.min_value), float(each.max_value), each.step_size
    if step is not None:
        count = math.floor((high - low) / step + _CLOSE)
        top = low + count * step
        if not each.include_max_value and high - top < step * _CLOSE:
            top -= step
        high = top
    elif not each.include_max_value:
        # Python 3.9 knows the next number.
        high = math.nextafter(high, low) if high > low else -math.inf
    if high < low:
        raise _empty(each.name, each.min_value, each.max_value)
    return Axis(FLOAT, low, high, step)


def _empty(name: str, low: float, high: float) -> Usage:
    return Usage(f"{name}: there is nothing from {low:g} to {high:g}")
