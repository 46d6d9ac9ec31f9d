"""Parallel coordinates: one line for each trial, through its values on all axes. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clearflow.words.drawing import escaped, ticks

_HEIGHT, _TOP, _BOTTOM, _APART, _SIDE = 420, 56, 24, 150, 90
_BAD, _GOOD = (214, 222, 230), (0, 90, 150)


@dataclass(frozen=True)
class Axis:
    """One axis: the value of each line on it, and whether it is logarithmic."""

    name: str
    values: Sequence[Any]
    log: bool = False


def parallel(title: str, axes: Sequence[Axis], shares: Sequence[float]) -> str:
    """Lines, darker the better: `shares` say how good each is, from 0 to 1.

    Values that are no numbers stand in their order.
    """
    width = 2 * _SIDE + _APART * max(len(axes) - 1, 1)
    head = f'<text x="{width / 2}" y="20" text-anchor="middle" font-size="15">'
    marks = [f"{head}{escaped(title)}</text>"]
    places = [_places(axis) for axis in axes]
    across = [_SIDE + _APART * n for n in range(len(axes))]
    for number in sorted(range(len(shares)), key=lambda n: shares[n]):
        share = shares[number]
        ink = ",".join(str(round(b + share * (g - b))) for b, g in zip(_BAD, _GOOD, strict=True))
        line = " ".join(
            f"{x},{_y(heights[number]):.1f}" for x, (heights, _) in zip(across, places, strict=True)
        )
        thick = 1 + share
        marks.append(f'<polyline points="{line}" fill="none" stroke="rgb({ink})"'
                     f' stroke-width="{thick:.1f}"/>')  # fmt: skip
    for x, axis, (_, labels) in zip(across, axes, places, strict=True):
        marks.append(f'<path d="M{x} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#333"/>')
        marks.append(
            f'<text x="{x}" y="{_TOP - 12}" text-anchor="middle" font-weight="bold">'
            f"{escaped(_short(axis.name))}</text>"
        )
        for height, words in labels:
            y = _y(height)
            marks.append(f'<path d="M{x - 3} {y:.1f}h6" stroke="#333"/>')
            marks.append(
                f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{escaped(words)}</text>'
            )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}"'
        f' height="{_HEIGHT}" font-family="sans-serif" font-size="11" fill="#333">'
        '<rect width="100%" height="100%" fill="#fff"/>'
    )
    return head + "".join(marks) + "</svg>"


def _y(height: float) -> float:
    return _HEIGHT - _BOTTOM - height * (_HEIGHT - _BOTTOM - _TOP)


def _places(axis: Axis) -> tuple[list[float], list[tuple[float, str]]]:
    """How high each value stands, from 0 to 1, and what is written beside the axis."""
    numbers = [v for v in axis.values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) < len(axis.values) or not numbers:
        words = [v if isinstance(v, str) else json.dumps(v) for v in axis.values]
        order = sorted(set(words))
        heights = {word: _share(n, 0, len(order) - 1) for n, word in enumerate(order)}
        few = order[:: max(len(order) // 12, 1)]
        return [heights[w] for w in words], [(heights[w], _short(w)) for w in few]
    log = axis.log and min(numbers) > 0
    scaled = [math.log10(n) if log else float(n) for n in numbers]
    low, high = min(scaled), max(scaled)
    at = ticks(low, high) or [low]
    labels = [(_share(t, low, high), f"{10**t if log else t:.4g}") for t in at]
    return [_share(each, low, high) for each in scaled], labels


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _short(words: str) -> str:
    return words if len(words) < 20 else f"{words[:18]}…"
