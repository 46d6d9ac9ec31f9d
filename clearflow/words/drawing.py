"""Pictures of numbers, as SVG and PNG, made here: no library has to be there for them."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape

# Okabe and Ito's colours, which people with any colour vision can tell apart (2008), and more.
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#8a5fbf",
    "#7f7f00", "#000000",
)  # fmt: skip
_WIDTH, _HEIGHT = 720, 400
_LEFT, _TOP, _BOTTOM = 72, 36, 48
_LEGEND = 160
_SHOWN = 24  # names in a legend, and along an axis


@dataclass(frozen=True)
class Line:
    """Points of one name, joined by a line, or dots, or both."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    joined: bool = True
    dotted: bool = False


@dataclass(frozen=True)
class Axes:
    """What is written at the axes; `labels` stand along the horizontal one, at 0, 1, 2 …"""

    x: str = ""
    y: str = ""
    labels: Sequence[str] = ()
    reversed: bool = False


def lines(title: str, series: Sequence[Line], axes: Axes | None = None) -> str:
    """Curves, or clouds of points. What is no finite number is left out."""
    axes = axes or Axes()
    xs = [x for s in series for x in s.x if math.isfinite(x)]
    ys = [y for s in series for y in s.y if math.isfinite(y)]
    frame = _Frame(title, axes, _span(xs), _span(ys), [s.name for s in series])
    for number, each in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        for part in _unbroken(each):
            points = [(frame.x(x), frame.y(y)) for x, y in part]
            if each.joined and len(points) > 1:
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                frame.put(f'<polyline points="{path}" stroke="{colour}" fill="none"/>')
            if each.dotted or not each.joined or len(points) == 1:
                radius = 2.5 if len(points) < 500 else 1.5
                for x, y in points:
                    frame.put(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>')
    return frame.svg()


def bars(
    title: str, series: Sequence[tuple[str, Sequence[float]]], axes: Axes | None = None
) -> str:
    """Groups of bars, one of each series at every place."""
    axes = axes or Axes()
    places = max((len(values) for _, values in series), default=0)
    heights = [v for _, values in series for v in values if math.isfinite(v)]
    span = _span([0.0, *heights])
    frame = _Frame(title, axes, (-0.5, max(places, 1) - 0.5), span, [name for name, _ in series])
    width = 0.9 / max(len(series), 1)
    zero = frame.y(0.0)
    for number, (_, values) in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        for place, value in enumerate(values):
            if math.isfinite(value):
                left = frame.x(place - 0.45 + number * width)
                right = frame.x(place - 0.45 + (number + 1) * width)
                top, height = min(zero, frame.y(value)), abs(frame.y(value) - zero)
                frame.put(
                    f'<rect x="{min(left, right):.1f}" y="{top:.1f}"'
                    f' width="{abs(right - left):.1f}" height="{height:.1f}" fill="{colour}"/>'
                )
    return frame.svg()


def matrix(
    title: str,
    rows: Sequence[Sequence[float]],
    axes: Axes | None = None,
    names: Sequence[str] = (),
) -> str:
    """Cells, darker for more, with their numbers where these fit; `names` are the rows'."""
    axes = axes or Axes()
    down, across = len(rows), max((len(row) for row in rows), default=0)
    names = names or [str(i) for i in range(down)]
    axes = replace(axes, labels=axes.labels or [str(j) for j in range(across)])
    frame = _Frame(title, axes, (-0.5, max(across, 1) - 0.5), (max(down, 1) - 0.5, -0.5), [], names)
    low, high = _span([v for row in rows for v in row if math.isfinite(v)])
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            share = (value - low) / (high - low) if math.isfinite(value) else 0.0
            shade = ",".join(str(round(255 + share * (c - 255))) for c in (0, 90, 150))
            left, right = sorted((frame.x(j - 0.5), frame.x(j + 0.5)))
            top, bottom = sorted((frame.y(i - 0.5), frame.y(i + 0.5)))
            box = f'width="{right - left:.1f}" height="{bottom - top:.1f}"'
            frame.put(f'<rect x="{left:.1f}" y="{top:.1f}" {box} fill="rgb({shade})"/>')
            if across <= 12 and down <= _SHOWN:
                ink = "#fff" if share > 0.5 else "#000"
                x, y = (left + right) / 2, (top + bottom) / 2 + 4
                frame.write(x, y, f"{value:.4g}", "middle", ink)
    return frame.svg()


class _Frame:
    """A picture with axes, into which marks are put."""

    def __init__(
        self,
        title: str,
        axes: Axes,
        across: tuple[float, float],
        up: tuple[float, float],
        legend: Sequence[str],
        names: Sequence[str] = (),
    ) -> None:
        self._across = across[::-1] if axes.reversed else across
        self._up = up
        named = [n for n in legend if n][:_SHOWN]
        self._right = _WIDTH - (_LEGEND if named else 16)
        self._marks: list[str] = []
        self.write(_WIDTH / 2, 20, title, "middle", size=15)
        self._scale(axes, names)
        for number, name in enumerate(named):
            y = _TOP + 12 + number * 14
            colour = _COLOURS[number % len(_COLOURS)]
            self.put(f'<rect x="{self._right + 10}" y="{y - 8}" width="10" height="8"'
                     f' fill="{colour}"/>')  # fmt: skip
            self.write(self._right + 25, y, name if len(name) < 22 else f"{name[:20]}…")

    def _scale(self, axes: Axes, names: Sequence[str]) -> None:
        bottom = _HEIGHT - _BOTTOM
        for value, text in _marks_of(axes.labels, self._across):
            x = self.x(value)
            self.put(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#ddd"/>')
            self.write(x, bottom + 16, text, "middle")
        for value, text in _marks_of(names, self._up):
            y = self.y(value)
            self.put(f'<path d="M{_LEFT} {y:.1f}H{self._right}" stroke="#ddd"/>')
            self.write(_LEFT - 6, y + 4, text, "end")
        box = f'width="{self._right - _LEFT}" height="{bottom - _TOP}"'
        self.put(f'<rect x="{_LEFT}" y="{_TOP}" {box} fill="none" stroke="#999"/>')
        self.write((_LEFT + self._right) / 2, _HEIGHT - 10, axes.x, "middle")
        if axes.y:
            middle = (_TOP + bottom) / 2
            self.put(
                f'<text x="14" y="{middle}" text-anchor="middle"'
                f' transform="rotate(-90 14 {middle})">{escaped(axes.y)}</text>'
            )

    def x(self, value: float) -> float:
        low, high = self._across
        return _LEFT + (value - low) / (high - low) * (self._right - _LEFT)

    def y(self, value: float) -> float:
        low, high = self._up
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)

    def put(self, mark: str) -> None:
        self._marks.append(mark)

    def write(
        self, x: float, y: float, text: str, anchor: str = "start", ink: str = "#333", size: int = 0
    ) -> None:
        big = f' font-size="{size}"' if size else ""
        where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{ink}"{big}'
        self.put(f"<text {where}>{escaped(text)}</text>")

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
            f' width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="11">'
            '<rect width="100%" height="100%" fill="#fff"/>'
        )
        return head + "".join(self._marks) + "</svg>"


def escaped(text: str) -> str:
    # XML knows no control characters, not even escaped ones.
    return escape("".join(c if c.isprintable() else " " for c in text))


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From the smallest to the largest value; never nothing."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        wide = abs(low) / 2 or 0.5
        return low - wide, high + wide
    return low, high


def _unbroken(line: Line) -> list[list[tuple[float, float]]]:
    """The parts of a line between its gaps."""
    parts: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y):  # noqa: B905 - of any Python
        if math.isfinite(x) and math.isfinite(y):
            parts[-1].append((x, y))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _marks_of(labels: Sequence[str], span: tuple[float, float]) -> list[tuple[float, str]]:
    """What is written along an axis, and where."""
    if labels:
        step = math.ceil(len(labels) / _SHOWN)
        return [(i, str(labels[i])[:12]) for i in range(0, len(labels), step)]
    return [(value, f"{value:.6g}") for value in ticks(*span)]


def ticks(start: float, end: float, about: int = 6) -> list[float]:
    """Round numbers between two: steps of 1, 2 or 5 times a power of ten."""
    low, high = min(start, end), max(start, end)
    if not math.isfinite(high - low) or low == high:
        return []
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * n for n in (1, 2, 5) if power * n >= rough), power * 10)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def png(width: int, height: int, channels: int, pixels: bytes) -> bytes:
    """A PNG of 8-bit pixels: grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4)."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    row = width * channels
    raw = b"".join(b"\0" + pixels[i * row : (i + 1) * row] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunk: Callable[[bytes, bytes], bytes] = lambda name, data: (  # noqa: E731
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    )
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def data_uri(kind: str, content: bytes) -> str:
    """The content as an address that holds it itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
