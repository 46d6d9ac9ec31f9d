"""Scalars: segments read again are the curves that were reported, and thin ones look the same."""

import math

from hypothesis import given
from hypothesis import strategies as st

from clearflow.words.curves import Curve, Segment, Trail, merged, stored, thinned

KEY = ("loss", "train")


def segment(
    claim: str, values: dict[int, float], *, writer: str = "w", at: str = "1", number: int = 0
) -> Segment:
    made = Segment(claim, f"{claim}-{writer}", at, number)
    made.add(KEY, list(values), list(values.values()))
    return made


def points(*segments: Segment) -> dict[int, float]:
    curve = merged(segments)[KEY]
    return dict(zip(curve.iterations, curve.values, strict=True))


numbers = st.floats(allow_nan=False)
reports = st.lists(st.tuples(st.integers(0, 50), numbers), min_size=1, max_size=60)


@given(reports, st.integers(1, 7), st.randoms())
def test_segments_give_what_was_reported_last_at_each_iteration(told, size, random):
    made = [Segment("a", "w", "1")]
    for iteration, value in told:
        made[-1].add(KEY, [iteration], [value])
        if made[-1].size >= size:
            made.append(made[-1].following())
    read = [Segment.parse(each.data()) for each in made]
    random.shuffle(read)
    found = points(*(each for each in read if each is not None and each.size))
    assert found == dict(told)
    assert list(found) == sorted(found)


def test_an_attempt_replaces_what_earlier_ones_had_from_its_first_iteration_on():
    first = segment("a", {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6}, at="1")
    second = segment("b", {2: 0.5}, at="2")
    assert points(second, first) == {0: 0.9, 1: 0.8, 2: 0.5}


def test_writers_of_one_attempt_add_to_each_other():
    one = segment("a", {0: 1.0, 2: 3.0}, at="1")
    other = segment("a", {1: 2.0}, writer="other", at="2")
    assert points(one, other) == {0: 1.0, 1: 2.0, 2: 3.0}


def test_of_a_segment_that_is_there_twice_the_longer_one_counts():
    assert points(segment("a", {0: 1.0}), segment("a", {0: 1.0, 1: 2.0})) == {0: 1.0, 1: 2.0}


def test_what_is_no_finite_number_is_kept():
    read = Segment.parse(segment("a", {0: math.nan, 1: math.inf, 2: -math.inf}).data())
    assert read is not None
    assert [str(v) for v in points(read).values()] == ["nan", "inf", "-inf"]
    assert [stored(v) for v in (math.nan, 1.5)] == ["nan", 1.5]
    assert Curve([0, 1], [math.nan, 2.0]).range() == (2.0, 2.0)
    assert Segment.parse({"somebody": "else's"}) is None


@given(st.lists(numbers, max_size=300), st.integers(1, 40))
def test_a_thin_curve_has_points_of_the_whole_one_with_both_ends(values, count):
    whole = Curve(list(range(len(values))), values)
    few = thinned(whole, count)
    assert len(few.iterations) == min(count, len(values))
    assert few.iterations == sorted(set(few.iterations))
    assert [values[i] for i in few.iterations] == few.values
    if count > 1 and values:
        assert (few.iterations[0], few.iterations[-1]) == (0, len(values) - 1)


def test_a_thin_curve_keeps_its_peak():
    values = [0.0] * 5000
    values[3210] = 9.0
    assert max(thinned(Curve(list(range(5000)), values), 50).values) == 9.0


def test_a_trail_stays_small_and_shows_the_whole():
    trail = Trail()
    for start in range(0, 100_000, 700):
        trail.add(
            range(start, start + 700), [math.sin(i / 9000) for i in range(start, start + 700)]
        )
    curve = trail.curve()
    assert len(curve.iterations) <= Trail.MOST
    assert curve.iterations[0] == 0
    assert curve.iterations[-1] >= 100_000 - 1
    low, high = curve.range()
    assert (round(low, 2), round(high, 2)) == (-1.0, 1.0)


def test_a_trail_of_an_earlier_attempt_ends_where_the_next_one_begins():
    trail = Trail(Curve([0, 1, 2, 3], [1.0, 1.0, 1.0, 1.0]))
    trail.add([2], [5.0])
    assert trail.curve() == Curve([0, 1, 2], [1.0, 1.0, 5.0])
