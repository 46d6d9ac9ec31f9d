"""Places in a line, for any line and any spot."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from clearflow.words import order

START = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def lines(draw: st.DrawFn) -> list[datetime]:
    """A line whose neighbours may stand a microsecond or a day apart."""
    gaps = draw(st.lists(st.sampled_from([1, 2, 3, 1000, 86_400_000_000]), max_size=8))
    place, line = START, []
    for gap in gaps:
        place += timedelta(microseconds=gap)
        line.append(place)
    return line


@given(lines(), st.data())
def test_a_new_task_stands_where_it_was_asked_to(line: list[datetime], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(line)))
    back = (line[-1] if line else START) + timedelta(seconds=1)

    writes = order.insert(line, index, back)

    after = [*line[:index], None, *line[index:]]
    for position, place in writes:
        after[position] = place
        # Nobody passes a neighbour, whoever stops here.
        known = [p for p in after if p is not None]
        assert known == sorted(set(known))
    assert writes[-1][0] == index
    assert all(p is not None and p <= back for p in after)


@given(lines(), st.data())
def test_neighbours_move_only_where_there_is_no_room(
    line: list[datetime], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(line)))
    writes = order.insert(line, index, (line[-1] if line else START) + timedelta(seconds=1))
    crowded = 0 < index < len(line) and line[index] - line[index - 1] <= order.TICK
    assert (len(writes) > 1) == crowded


def test_twenty_tasks_in_turn_between_two_neighbours() -> None:
    """A second holds about twenty halvings; then those in front make room."""
    line = [START, START + timedelta(seconds=1)]
    for _ in range(40):
        writes = order.insert(line, 1, START + timedelta(days=1))
        line.insert(1, START)
        for position, place in writes:
            line[position] = place
        assert line == sorted(set(line))
