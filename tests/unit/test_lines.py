"""Console output cut into lines, whatever the places where reads happen to cut it."""

import itertools

import hypothesis.strategies as st
from hypothesis import given

from clearflow.supervisor.lines import (
    LONGEST,
    Lines,
    Masks,
    fold,
    mark,
    secrets_of,
    without_marks,
)


def cut(chunks, secrets=()):
    """All pieces of a stream that arrives in these chunks, and what is kept of it as a file."""
    lines = Lines(Masks(secrets))
    pieces, kept = [], b""
    for chunk in chunks:
        whole = lines.whole(chunk)
        kept += without_marks(whole)
        pieces += lines.take(whole)
    return pieces + lines.end(), kept


def split(data, places):
    """The data in chunks that end at these places."""
    ends = [0, *sorted({min(p, len(data)) for p in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(ends)]


PLACES = st.lists(st.integers(0, 400), max_size=12)


@given(st.lists(st.text("ab\rü😀 \0", max_size=12), max_size=12), PLACES)
def test_lines_do_not_depend_on_how_they_arrive(texts, places):
    data = "".join(t + "\n" for t in texts).encode()
    pieces, kept = cut(split(data, places))
    assert pieces == [fold(t) for t in texts]
    assert kept == data


@given(st.lists(st.one_of(st.text("ab\0\x1e7", max_size=8), st.integers(1, 99))), PLACES)
def test_marks_are_found_and_leave_no_trace(items, places):
    items = [i.replace("\0\x1e", "") if isinstance(i, str) else i for i in items]
    data = b"".join(mark(i) if isinstance(i, int) else i.encode() + b"|\n" for i in items)
    pieces, kept = cut(split(data, places))
    assert pieces == [i if isinstance(i, int) else f"{i}|" for i in items]
    assert kept == b"".join(i.encode() + b"|\n" for i in items if isinstance(i, str))


def test_a_mark_in_the_middle_of_a_line_leaves_the_line_whole():
    assert cut([b"one " + mark(1) + b"line\n"]) == ([1, "one line"], b"one line\n")


@given(st.integers(0, 60_000), st.integers(1, 30_000), PLACES)
def test_long_lines_are_cut_and_nothing_is_lost(size, step, places):
    data = ("ü" * size).encode()
    chunks = [data[i : i + step] for i in range(0, len(data), step)]
    pieces, _ = cut(chunks)
    assert "".join(pieces) == "ü" * size
    assert all(len(p) <= LONGEST for p in pieces)


@given(st.integers(LONGEST - 60, LONGEST + 60), PLACES)
def test_a_secret_is_masked_wherever_a_long_line_is_cut(before, places):
    secret = "correct-horse-battery"
    data = b"x" * before + secret.encode() + b"y" * LONGEST + secret.encode()
    pieces, _ = cut(split(data, [p + before - 200 for p in places]), [secret])
    assert "".join(pieces) == "x" * before + "********" + "y" * LONGEST + "********"


def test_a_secret_of_several_lines_is_masked_line_by_line():
    secret = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n-----END KEY-----\n"
    pieces, _ = cut([b"it is " + secret.encode()], [secret])
    assert pieces == ["it is ********", "********", "********"]


def test_short_values_are_no_secrets():
    assert cut([b"true story\n"], ["true"])[0] == ["true story"]


def test_secrets_are_known_by_the_names_of_their_variables():
    env = {"AWS_SECRET_ACCESS_KEY": "a", "GIT_TOKEN": "b", "my_password": "c", "HOME": "d"}
    assert secrets_of(env) == ["a", "b", "c"]
