"""Pictures made here: sound XML, sound PNG, whatever is drawn."""

import base64
import math
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearflow.client import plots
from clearflow.errors import Refused, Usage
from clearflow.words import drawing
from clearflow.words.drawing import Axes, Line

SVG = "{http://www.w3.org/2000/svg}"
values = st.lists(st.floats(width=32), max_size=20)


def drawn(picture: str) -> ET.Element:
    return ET.fromstring(picture)


def texts(picture: str) -> list[str]:
    return [each.text or "" for each in drawn(picture).iter(f"{SVG}text")]


@given(st.text(max_size=20), st.lists(values, max_size=4))
def test_any_numbers_and_words_make_sound_pictures(title, rows):
    lines = [Line(title, range(len(row)), row, dotted=True) for row in rows]
    drawn(drawing.lines(title, lines, Axes(title, title)))
    drawn(drawing.bars(title, [(title, row) for row in rows], Axes(labels=[title] * 3)))
    drawn(drawing.matrix(title, rows, Axes(title, title), [title]))


def test_a_line_ends_at_a_gap_and_goes_on_behind_it():
    y = [1.0, 2.0, math.nan, 3.0, 4.0]
    picture = drawing.lines("loss <1>", [Line("train", range(5), y)])
    assert len(drawn(picture).findall(f"{SVG}polyline")) == 2
    assert {"loss <1>", "train"} <= set(texts(picture))


def test_a_matrix_shows_its_numbers_and_names():
    picture = drawing.matrix("m", [[5, 1], [0, 7]], Axes(labels=["cat", "dog"]), ["a", "b"])
    assert {"5", "1", "0", "7", "cat", "dog", "a", "b"} <= set(texts(picture))


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_ticks_are_few_and_between(a, b):
    found = drawing.ticks(a, b)
    slack = abs(a - b) * 1e-6 + 1e-9
    assert all(min(a, b) - slack <= tick <= max(a, b) + slack for tick in found)
    assert len(found) <= 8


def test_pixels_make_a_png():
    image = np.zeros((2, 3, 3))
    image[0, 0] = [1.0, 0.5, 0.0]
    made = plots.image(image)
    assert made.startswith("data:image/png;base64,")
    content = drawing.png(3, 2, 3, bytes(range(18)))
    assert struct.unpack(">II", content[16:24]) == (3, 2)
    start = content.index(b"IDAT") + 4
    (size,) = struct.unpack(">I", content[start - 8 : start - 4])
    assert zlib.decompress(content[start : start + size]) == (
        b"\0" + bytes(range(9)) + b"\0" + bytes(range(9, 18))
    )


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 4), (3, 40, 50)])
def test_arrays_of_these_shapes_are_images(shape):
    for kind in (np.uint8, np.float32, bool):
        assert plots.image(np.ones(shape, kind)).startswith("data:image/png")


def test_what_is_no_image_or_too_large_is_refused():
    with pytest.raises(Usage):
        plots.image(np.ones(3))
    with pytest.raises(Usage):
        plots.image("text")
    noise = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), np.uint8)
    with pytest.raises(Refused, match="too large to be shown"):
        plots.image(noise)


def test_tables_of_many_kinds():
    rows = [{"name": "a", "score": 1}, {"name": "b", "score": 2.5}]
    assert plots.table(rows) == rows
    assert plots.table([["name", "score"], ["a", 1], ["b", 2.5]]) == rows
    assert plots.table({"name": ["a", "b"], "score": [1, 2.5]}) == rows
    assert plots.table([["x"], [math.nan], [None]]) == [{"x": "nan"}, {"x": None}]
    assert plots.table([]) == []
    assert len(plots.table([["n"], *([i] for i in range(5000))])) == plots.ROWS


def test_figures_of_plotly_by_their_dictionaries():
    lines = {"data": [{"type": "scatter", "name": "s", "x": [0, 1], "y": [1, 2]}]}
    bars = {"data": [{"type": "bar", "x": ["a", "b"], "y": [1, 2]}], "layout": {"title": "B"}}
    heat = {"data": [{"type": "heatmap", "z": [[1, 2], [3, 4]], "x": ["a", "b"]}]}
    coded = {"dtype": "f8", "bdata": base64.b64encode(np.arange(4.0).tobytes()).decode()}
    square = {"type": "heatmap", "z": {**coded, "shape": "2, 2"}}
    dots = {"mode": "markers", "x": coded, "y": coded}
    assert plots.numbers(coded) == [0, 1, 2, 3]
    assert plots.rows_of_numbers(square["z"]) == [[0, 1], [2, 3]]
    for figure in (lines, bars, heat, {"data": [square]}, {"data": [dots]}):
        assert plots.plotly("t", figure).startswith("data:image/svg+xml")
    with pytest.raises(Usage, match="pie cannot be drawn"):
        plots.plotly("t", {"data": [{"type": "pie"}]})
