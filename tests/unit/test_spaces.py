"""Spaces: what there is to choose, and what makes no sense."""

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearflow.errors import Usage
from clearflow.words.spaces import (
    DiscreteParameterRange,
    LogUniformParameterRange,
    ParameterSet,
    Space,
    UniformIntegerParameterRange,
    UniformParameterRange,
    dump,
)

WRONG: Any = 1.5
WORD: Any = "0"
SETS = ParameterSet([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])


def test_a_range_without_a_step_has_no_end():
    assert UniformParameterRange("lr", 0, 1).axis.places() is None
    assert UniformParameterRange("lr", 1, 1).axis.places() == [1.0]


@pytest.mark.parametrize(
    ("made", "places"),
    [
        (UniformParameterRange("x", 0, 0.3, 0.1), [0.0, 0.1, 0.2, 0.3]),
        (UniformParameterRange("x", 0, 0.3, 0.1, False), [0.0, 0.1, 0.2]),
        (UniformParameterRange("x", 0, 0.35, 0.1, False), [0.0, 0.1, 0.2, 0.3]),
        (UniformIntegerParameterRange("x", 1, 4), [1, 2, 3, 4]),
        (UniformIntegerParameterRange("x", 1, 4, include_max_value=False), [1, 2, 3]),
        (UniformIntegerParameterRange("x", 1, 6, 2, False), [1, 3, 5]),
        (DiscreteParameterRange("x", ["a", "b"]), [0, 1]),
        (LogUniformParameterRange("x", -3, -1, step_size=1), [-3.0, -2.0, -1.0]),
    ],
)
def test_the_places_of_a_range(made, places):
    assert made.axis.places() == pytest.approx(places)


def test_what_a_task_gets():
    assert LogUniformParameterRange("x", -3, -1).valued(-2.0) == pytest.approx({"x": 0.01})
    assert LogUniformParameterRange("x", 0, 8, base=2).valued(3) == {"x": 8.0}
    assert UniformIntegerParameterRange("x", 1, 4).valued(2) == {"x": 2}
    assert DiscreteParameterRange("x", [None, [1, 2]]).valued(1) == {"x": [1, 2]}
    assert SETS.valued(1) == {"a": 2, "b": "y"}


def test_what_is_excluded_is_never_drawn():
    axis = UniformParameterRange("x", 0, 1, include_max_value=False).axis
    assert axis.high == math.nextafter(1, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UniformParameterRange("x", 1, 0), "nothing from 1 to 0"),
        (lambda: UniformParameterRange("x", 1, 1, include_max_value=False), "nothing from 1 to 1"),
        (lambda: UniformParameterRange("x", 0, 1, -0.1), "leads nowhere"),
        (lambda: UniformParameterRange("x", 0, math.inf), "no end of a range"),
        (lambda: UniformParameterRange("x", WORD, 1), "no number"),
        (lambda: UniformParameterRange("", 0, 1), "needs a name"),
        (lambda: UniformIntegerParameterRange("x", 0, WRONG), "no whole number"),
        (lambda: UniformIntegerParameterRange("x", 3, 3, 1, False), "nothing from 3 to 3"),
        (lambda: LogUniformParameterRange("x", 1, 1000, base=10), "is no number"),
        (lambda: LogUniformParameterRange("x", 1, 2, base=1), "powers of 1"),
        (lambda: DiscreteParameterRange("x", []), "no value to choose"),
        (lambda: ParameterSet([]), "nothing to choose"),
        (lambda: ParameterSet([{"a": 1}, {"b": 1}]), "differ"),
        (lambda: ParameterSet([{"a": UniformParameterRange("a", 0, 1)}]), "beside it"),
        (lambda: Space([]), "needs parameters"),
        (lambda: Space([SETS, DiscreteParameterRange("General/b", [1])]), "there twice"),
    ],
)
def test_what_makes_no_sense_is_one_line(make, words):
    with pytest.raises(Usage, match=words) as raised:
        make()
    assert "\n" not in raised.value.message


def test_a_grid_goes_through_all_points_in_order():
    space = Space([UniformIntegerParameterRange("n", 1, 2), SETS])
    assert space.size() == 4
    assert [space.valued(p) for p in space.grid()] == [
        {"n": n, "a": a, "b": b} for n in (1, 2) for a, b in ((1, "x"), (2, "y"))
    ]
    with pytest.raises(Usage, match="no end of them"):
        Space([UniformParameterRange("lr", 0, 1)]).grid()


numbers = st.floats(-100, 100)
ranges = st.one_of(
    st.builds(
        lambda low, span, step: UniformParameterRange("r", low, low + span, step),
        numbers,
        st.floats(0, 50),
        st.none() | st.floats(0.01, 10),
    ),
    st.builds(
        lambda low, span, step: UniformIntegerParameterRange("r", low, low + span, step),
        st.integers(-100, 100),
        st.integers(0, 50),
        st.integers(1, 7),
    ),
    st.builds(lambda n: DiscreteParameterRange("r", list(range(n))), st.integers(1, 9)),
)


@given(ranges, st.integers())
def test_what_is_drawn_is_in_the_space_and_survives_json(made, seed):
    space = Space([made, SETS])
    point = space.draw(random.Random(seed))
    assert space.holds(point)
    assert space.holds(json.loads(json.dumps(point)))
    assert space.valued(json.loads(json.dumps(point))) == space.valued(point)
    places = made.axis.places()
    assert places is None or point["r"] in places
    kind = type(made)
    data = json.loads(json.dumps(dump(made)))
    assert kind(**data) == made
