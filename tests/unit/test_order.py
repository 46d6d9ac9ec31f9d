"""Places in a line: strictly in order, and as few as possible are written again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearflow.words import order
from clearflow.words.order import TICK

NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)

# Places a few microseconds or some seconds apart, all of them due.
gaps = st.one_of(st.integers(1, 3), st.integers(1, 10_000_000))
lines = st.lists(gaps, max_size=8).map(
    lambda steps: [NOW - TICK * sum(steps[n:]) for n in range(len(steps))]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[datetime], int]:
    line = draw(lines)
    return line, draw(st.integers(0, len(line)))


def after(line: list[datetime], index: int, back: datetime = NOW) -> list[datetime]:
    """The line once everything is written, checked after every single write."""
    writes = order.insert(line, index, back)
    assert writes[-1][0] == index
    places = list(line)
    for position, place in writes[:-1]:
        assert position < index
        places[position] = place
        assert places == sorted(set(places)), "somebody has passed a neighbour"
    places.insert(index, writes[-1][1])
    return places


@given(requests())
def test_a_task_stands_where_it_was_asked_to_stand(request: tuple[list[datetime], int]) -> None:
    line, index = request
    places = after(line, index)
    assert len(places) == len(line) + 1
    assert places == sorted(set(places))


@given(requests())
def test_no_place_is_in_the_future(request: tuple[list[datetime], int]) -> None:
    line, index = request
    back = max([NOW, *(place + TICK for place in line)])
    assert all(place <= back for _, place in order.insert(line, index, back))


@given(requests())
def test_nobody_is_moved_while_there_is_room(request: tuple[list[datetime], int]) -> None:
    line, index = request
    room = 0 < index < len(line) and line[index] - line[index - 1] >= 2 * TICK
    if room or index in {0, len(line)}:
        assert len(order.insert(line, index, NOW)) == 1


@given(requests())
def test_as_few_as_possible_in_front_are_moved(request: tuple[list[datetime], int]) -> None:
    line, index = request
    moved = len(order.insert(line, index, NOW)) - 1
    for fewer in range(moved):
        first = index - fewer
        assert first > 0
        assert (line[index] - line[first - 1]) // TICK <= fewer + 1, "there was room before"


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_many_moves_to_the_same_spots(spots: list[int]) -> None:
    line: list[datetime] = []
    for spot in spots * 5:
        line = after(line, spot % (len(line) + 1))
    assert line == sorted(set(line))


@given(st.integers(1, 6), st.integers(0, 6))
def test_tasks_at_one_and_the_same_place_are_told_apart(count: int, index: int) -> None:
    line = [NOW] * count
    index = min(index, count)
    writes = dict(order.insert(line, index, NOW))
    places = [writes.get(n, NOW) for n in range(index + 1)]
    assert places[:-1] == sorted(places[:-1])
    assert all(place < NOW for place in places[:-1] if place != NOW)
    assert places[-1] > NOW if index == count else places[-1] < NOW


def test_a_busy_line_of_microseconds() -> None:
    line = [NOW + TICK * n for n in range(4)]
    assert order.insert(line, 2, NOW) == [
        (0, NOW + TICK * 2 - 3 * order.GAP),
        (1, NOW + TICK * 2 - 2 * order.GAP),
        (2, NOW + TICK * 2 - 1 * order.GAP),
    ]


def test_the_back_of_a_line_that_is_ahead_of_this_clock() -> None:
    """The server's time is known a little late: nobody is moved for that."""
    ahead = NOW + timedelta(seconds=1)
    assert order.insert([NOW, ahead], 2, NOW) == [(2, ahead + TICK)]


def test_an_empty_line() -> None:
    assert order.insert([], 0, NOW) == [(0, NOW)]


@pytest.mark.parametrize("index", [-1, 3])
def test_outside_the_line(index: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        order.insert([NOW, NOW + TICK], index, NOW)
