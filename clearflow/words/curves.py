"""Scalars over iterations: how they are stored in segments, read again, and thinned for a look.

A writer appends to segments; each is a few hundred iterations of all its series. Several writers
may report to one task at a time, and each attempt at the task has writers of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, str]
"""A title and a series."""

FULL = 2500  # points of a segment that is closed: 500 iterations of five series
_VERSION = 1


@dataclass
class Curve:
    """One series: iterations that rise, and the value at each."""

    iterations: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def last(self) -> float:
        return self.values[-1]

    def range(self) -> tuple[float, float]:
        """The smallest and the largest value; NaN counts only where there is nothing else."""
        numbers = [v for v in self.values if not math.isnan(v)] or self.values
        return min(numbers), max(numbers)


@dataclass
class Segment:
    """What one writer has appended at a time, `number` segments after its first.

    `claim` names the attempt, `at` says when the writer began, as ISO 8601 in the server's time.
    """

    claim: str
    writer: str
    at: str
    number: int = 0
    points: dict[Key, tuple[list[int], list[float]]] = field(default_factory=dict)
    size: int = 0

    def add(self, key: Key, iterations: Sequence[int], values: Sequence[float]) -> None:
        mine = self.points.setdefault(key, ([], []))
        mine[0].extend(iterations)
        mine[1].extend(values)
        self.size += len(iterations)

    def following(self) -> Segment:
        """The empty one after it."""
        return Segment(self.claim, self.writer, self.at, self.number + 1)

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "version": _VERSION,
            "claim": self.claim,
            "writer": self.writer,
            "at": self.at,
            "number": self.number,
            "series": [
                [title, series, iterations, [stored(v) for v in values]]
                for (title, series), (iterations, values) in self.points.items()
            ],
        }

    @classmethod
    def parse(cls, data: Any) -> Segment | None:
        """The inverse of `data`; None for anything else."""
        if not isinstance(data, Mapping) or data.get("version") != _VERSION:
            return None
        made = cls(data["claim"], data["writer"], data["at"], data["number"])
        for title, series, iterations, values in data["series"]:
            made.add((title, series), iterations, [float(v) for v in values])
        return made


def stored(value: float) -> float | str:
    """As JSON has it, which knows no NaN and no infinities; `float` is the inverse."""
    return value if math.isfinite(value) else str(value)


def merged(segments: Iterable[Segment]) -> dict[Key, Curve]:
    """The curves of a task, out of all of its segments in any order.

    At one iteration the value that was reported last counts. An attempt that reports from some
    iteration on replaces what earlier attempts had from there on, as TensorBoard does it for
    programs that start again.
    """
    # A segment whose answer was lost may be there twice; the longer one is the later.
    longest: dict[tuple[str, int], Segment] = {}
    for segment in segments:
        have = longest.get((segment.writer, segment.number))
        if have is None or have.size < segment.size:
            longest[segment.writer, segment.number] = segment
    attempts: dict[str, list[Segment]] = {}
    for segment in sorted(longest.values(), key=lambda s: (s.at, s.number)):
        attempts.setdefault(segment.claim, []).append(segment)
    found: dict[Key, dict[int, float]] = {}
    for mine in attempts.values():
        fresh: dict[Key, dict[int, float]] = {}
        for segment in mine:
            for key, (iterations, values) in segment.points.items():
                fresh.setdefault(key, {}).update(zip(iterations, values, strict=True))
        for key, points in fresh.items():
            first = min(points)
            older = {i: v for i, v in found.get(key, {}).items() if i < first}
            found[key] = {**older, **points}
    return {key: _curve(points) for key, points in found.items()}


def _curve(points: Mapping[int, float]) -> Curve:
    order = sorted(points)
    return Curve(order, [points[i] for i in order])


def thinned(curve: Curve, count: int) -> Curve:
    """At most `count` of its points, chosen so that it looks the same.

    Largest-Triangle-Three-Buckets: of each bucket the point that makes the largest triangle with
    the one chosen before it and the mean of the next bucket (Sveinn Steinarsson, "Downsampling
    Time Series for Visual Representation", University of Iceland, 2013).
    """
    x, y = curve.iterations, curve.values
    total = len(x)
    if count <= 0 or total <= count:
        return curve
    if count < 3:
        keep = [0, total - 1][-count:]
        return Curve([x[i] for i in keep], [y[i] for i in keep])
    width = (total - 2) / (count - 2)
    keep, before = [0], 0
    for bucket in range(count - 2):
        start, end = int(bucket * width) + 1, int((bucket + 1) * width) + 1
        stop = min(int((bucket + 2) * width) + 1, total)
        mean_x = sum(x[end:stop]) / (stop - end)
        mean_y = sum(y[end:stop]) / (stop - end)
        best, area = start, -1.0
        for i in range(start, end):
            here = abs(
                (x[before] - mean_x) * (y[i] - y[before])
                - (x[before] - x[i]) * (mean_y - y[before])
            )
            if here > area:  # never for NaN
                best, area = i, here
        keep.append(best)
        before = best
    keep.append(total - 1)
    return Curve([x[i] for i in keep], [y[i] for i in keep])


def _extremes(curve: Curve, buckets: int) -> Curve:
    """The first, lowest, highest and last point in each of so many equal spans of iterations.

    Done again and again to a curve that grows it loses nothing that a picture shows: unlike
    buckets of equally many points, equal spans do not favour what was added last.
    """
    start = curve.iterations[0]
    width = (curve.iterations[-1] - start) // buckets + 1
    spans: dict[int, list[int]] = {}
    for i, iteration in enumerate(curve.iterations):
        spans.setdefault((iteration - start) // width, []).append(i)
    at = curve.values.__getitem__
    keep = sorted(
        {
            i
            for span in spans.values()
            for i in (span[0], min(span, key=at), max(span, key=at), span[-1])
        }
    )
    return Curve([curve.iterations[i] for i in keep], [curve.values[i] for i in keep])


class Trail:
    """A curve that grows, kept small: what a picture of it needs, however long it gets."""

    MOST = 2000

    def __init__(self, curve: Curve | None = None) -> None:
        self._curve = Curve()
        if curve is not None and curve.iterations:
            self._curve = _extremes(curve, self.MOST // 8)
        self._inherited = curve is not None
        self._sorted = True

    def add(self, iterations: Sequence[int], values: Sequence[float]) -> None:
        """Further points, in any order; the first ones replace what an earlier attempt had."""
        mine = self._curve
        if self._inherited:
            first = min(iterations)
            older = sum(i < first for i in mine.iterations)
            del mine.iterations[older:], mine.values[older:]
            self._inherited = False
        mine.iterations.extend(iterations)
        mine.values.extend(values)
        self._sorted = False
        if len(mine.iterations) > self.MOST:
            self._curve = _extremes(self.curve(), self.MOST // 8)

    def curve(self) -> Curve:
        if not self._sorted:
            self._curve = _curve(dict(zip(self._curve.iterations, self._curve.values, strict=True)))
            self._sorted = True
        return self._curve
