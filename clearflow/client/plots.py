"""What people plot, as rows and as pictures that hold themselves: no library is imported for it."""

from __future__ import annotations

import base64
import csv
import io
import math
import mimetypes
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clearflow.errors import Refused, Usage
from clearflow.words import drawing
from clearflow.words.drawing import Axes, Line
from clearflow.words.parameters import plain

LARGEST = 2_000_000  # bytes of one picture
ROWS = 1000  # of one table


def numbers(values: Any) -> list[float]:
    """Any array of one dimension, of whatever library."""
    return [float("nan") if v is None else float(v) for v in _listed(values)]


def rows_of_numbers(values: Any) -> list[list[float]]:
    """Any array of two dimensions; one of one dimension is its only row."""
    found = _listed(values)
    if found and not hasattr(found[0], "__len__"):
        return [numbers(found)]
    return [numbers(row) for row in found]


def _listed(values: Any) -> list[Any]:
    if isinstance(values, Mapping) and "bdata" in values:
        return _decoded(values)
    if hasattr(values, "detach"):  # a tensor may be on a GPU, or part of a graph
        values = values.detach().cpu()
    found = values.tolist() if hasattr(values, "tolist") else list(values)
    return found if isinstance(found, list) else [found]


# The types of plotly's arrays in base64, as the module `array` names them.
_CODES = {
    "f8": "d", "f4": "f", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I",
}  # fmt: skip


def _decoded(values: Mapping[str, Any]) -> list[Any]:
    """An array as plotly 6 has it in its figures; of two dimensions when it has a shape."""
    code = _CODES.get(str(values.get("dtype")))
    if code is None:
        raise Usage(f"an array of plotly's with numbers of {values.get('dtype')} cannot be read")
    found = array(code, base64.b64decode(values["bdata"])).tolist()
    shape = [int(n) for n in str(values.get("shape") or "").split(",") if n.strip()]
    if len(shape) < 2:
        return found
    return [found[i : i + shape[-1]] for i in range(0, len(found), shape[-1])]


def svg(picture: str) -> str:
    return uri("image/svg+xml", picture.encode())


def table(content: Any) -> list[dict[str, Any]]:
    """Rows by column: of a data frame, of dictionaries, or of rows below one of names."""
    if hasattr(content, "columns") and hasattr(content, "reset_index"):
        frame = content.head(ROWS)
        if type(frame.index).__name__ != "RangeIndex":
            frame = frame.reset_index()
        names, rows = [str(c) for c in frame.columns], frame.values.tolist()
    elif isinstance(content, Mapping):
        names = [str(name) for name in content]
        columns = [_listed(column) for column in content.values()]
        rows = [list(row) for row in zip(*columns)]  # noqa: B905 - of any Python
    else:
        given = list(content)[: ROWS + 1]
        if given and isinstance(given[0], Mapping):
            return [{str(k): _cell(v) for k, v in row.items()} for row in given[:ROWS]]
        listed = [_listed(row) for row in given]
        names, rows = [str(name) for name in (listed or [[]])[0]], listed[1:]
    cells = [[_cell(value) for value in row] for row in rows[:ROWS]]
    return [dict(zip(names, row)) for row in cells]  # noqa: B905 - of any Python


def csv_table(path: str | Path) -> list[dict[str, Any]]:
    with open(path, newline="") as file:
        return table([row for row, _ in zip(csv.reader(file), range(ROWS + 1))])  # noqa: B905


def _cell(value: Any) -> Any:
    simple = plain(value)
    if isinstance(simple, float) and not math.isfinite(simple):
        return str(simple)
    return simple if isinstance(simple, (str, int, float, type(None))) else str(simple)


# -- pictures ---------------------------------------------------------------------------------


def file(path: str | Path) -> str:
    """A picture in a file."""
    kind = mimetypes.guess_type(str(path))[0] or "application/octet-stream"
    if not kind.startswith("image/"):
        raise Usage(f"{path} is no image", hint="upload_artifact keeps files of any kind")
    return uri(kind, Path(path).read_bytes())


def image(content: Any) -> str:
    """A PIL image, or an array or tensor of pixels (0 to 255, or 0.0 to 1.0)."""
    if hasattr(content, "save") and hasattr(content, "mode"):
        made = io.BytesIO()
        content.save(made, format="PNG")
        return uri("image/png", made.getvalue())
    if hasattr(content, "detach"):
        content = content.detach().cpu().numpy()
    shape: tuple[int, ...] = tuple(getattr(content, "shape", ()))
    if len(shape) == 3 and shape[0] in {1, 3, 4} and shape[2] not in {1, 2, 3, 4}:
        content = content.transpose(1, 2, 0)  # channels first
        shape = tuple(content.shape)
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in {2, 3} or channels not in {1, 2, 3, 4}:
        raise Usage(f"an image is no {type(content).__name__} of the shape {tuple(shape)}")
    if content.dtype.kind == "f":
        content = content * 255 if float(content.max()) <= 1.0 else content
    elif content.dtype.kind == "b":
        content = content * 255
    pixels = content.clip(0, 255).astype("uint8").tobytes()
    return uri("image/png", drawing.png(shape[1], shape[0], channels, pixels))


def matplotlib(figure: Any) -> str:
    """A figure, or the current one of `pyplot`."""
    if hasattr(figure, "gcf"):
        figure = figure.gcf()
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=100, bbox_inches="tight")
    return uri("image/png", made.getvalue())


def plotly(title: str, figure: Any) -> str:
    """A plotly figure, or its dictionary, with its lines, dots, bars and heat maps.

    Raises Usage for one with other traces.
    """
    words = figure if isinstance(figure, Mapping) else figure.to_dict()
    layout = words.get("layout") or {}
    axes = Axes(_title(layout.get("xaxis")), _title(layout.get("yaxis")))
    title = _title(layout) or title
    traces = list(words.get("data") or ())
    kinds = {str(t.get("type") or "scatter") for t in traces}
    if kinds <= {"scatter", "scattergl"}:
        drawn = drawing.lines(title, [_trace(t) for t in traces], axes)
    elif kinds == {"bar"}:
        labels = _names(traces[0].get("x"))
        groups = [(str(t.get("name") or ""), numbers(t["y"])) for t in traces]
        drawn = drawing.bars(title, groups, Axes(axes.x, axes.y, labels))
    elif kinds == {"heatmap"} and len(traces) == 1:
        labels, names = _names(traces[0].get("x")), _names(traces[0].get("y"))
        grid = rows_of_numbers(traces[0]["z"])
        drawn = drawing.matrix(title, grid, Axes(axes.x, axes.y, labels), names)
    else:
        raise Usage(
            f"a plotly figure with {', '.join(sorted(kinds))} cannot be drawn here",
            hint="report_image takes it as a picture: figure.to_image()",
        )
    return svg(drawn)


def _trace(trace: Mapping[str, Any]) -> Line:
    y = numbers(trace["y"])
    x = trace.get("x")
    given = range(len(y)) if x is None else x
    mode = str(trace.get("mode") or "lines")
    try:
        at = numbers(given)
    except ValueError:  # names, or dates
        at = [float(i) for i in range(len(y))]
    return Line(str(trace.get("name") or ""), at, y, "lines" in mode, "markers" in mode)


def _names(values: Any) -> list[str]:
    return [] if values is None else [str(value) for value in _listed(values)]


def _title(of: Any) -> str:
    words = (of or {}).get("title") or ""
    return str(words.get("text") or "") if isinstance(words, Mapping) else str(words)


def cloud(name: str, points: Any, mode: str) -> Line:
    """Pairs of numbers as a line, or dots, or both."""
    pairs = rows_of_numbers(points)
    if any(len(pair) < 2 for pair in pairs):
        raise Usage(f"{name}: these are no pairs of x and y")
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    return Line(name, x, y, "line" in mode, "markers" in mode)


def infos(series: Iterable[Any], mode: str) -> list[Line]:
    """Lines as ClearML has them: objects or dictionaries with a name and data."""
    found = []
    for each in series:
        named = isinstance(each, Mapping)
        name = each["name"] if named else each.name
        found.append(cloud(str(name), each["data"] if named else each.data, mode))
    return found


def strings(words: Sequence[Any] | None) -> list[str]:
    return [str(word) for word in words or ()]


def uri(kind: str, content: bytes) -> str:
    """A picture as an address that holds it. Raises Refused for one that is too large."""
    url = drawing.data_uri(kind, content)
    if len(url) > LARGEST:
        raise Refused(
            f"a picture of {len(url) / 1e6:.1f} MB is too large to be shown: at most"
            f" {LARGEST / 1e6:.0f} MB",
            hint="make it smaller, or keep it as an artifact",
        )
    return url
