"""What is written into the message of a state can be read again."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearflow.words.notes import Note

storable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.one_of(
    st.text(storable),
    st.sampled_from(
        [
            "",
            " ",
            "two words ",
            "[by=ada]",
            "x [by=ada]",
            "x []",
            "a=b [c",
            "line\n[claim=x]\n",
            "🚀 [",
        ]
    ),
)
names = st.one_of(
    st.text(storable, min_size=1), st.sampled_from(["gpu box:0", "a]b", "[", "ä=ö", "😀:1"])
)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
notes = st.builds(
    Note,
    text=texts,
    by=st.none() | names,
    since=st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=zones),
    attempt=st.integers(1, 9),
    agent=st.none() | names,
    claim=st.none() | names,
)


@given(notes)
def test_a_note_is_read_as_it_was_written(note: Note) -> None:
    assert Note.parse(str(note)) == note


@given(texts)
def test_a_note_without_fields_is_its_sentence(text: str) -> None:
    assert Note.parse(str(Note(text))) == Note(text)


@given(st.text(st.sampled_from("[]= abgynt0\n")))
def test_any_message_can_be_read(message: str) -> None:
    Note.parse(message)


def test_what_people_see() -> None:
    since = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
    note = Note("claimed by box:0", by="box:0", since=since, agent="box:0", claim="1f0c")
    assert str(note) == (
        "claimed by box:0"
        " [attempt=1 agent=box:0 claim=1f0c since=2026-01-05T09:30:00+00:00 by=box:0]"
    )


@pytest.mark.parametrize(
    "message",
    [
        None,
        "",
        "Flow run cancelled by the user",
        "not ours [speed=7]",
        "glued[by=ada]",
        "broken [attempt=many]",
        "broken [since=yesterday]",
        "[]]",
    ],
)
def test_a_message_that_is_not_ours_is_all_sentence(message: str | None) -> None:
    assert Note.parse(message) == Note(message or "")


def test_a_long_message_that_almost_looks_like_fields_is_read_at_once() -> None:
    Note.parse("[" + "a=" * 50_000 + "  !")


def test_what_no_database_takes_is_replaced() -> None:
    assert str(Note("nul \0, half \ud83d", by="x\0y")) == "nul �, half � [by=x%EF%BF%BDy]"


def test_the_same_note_with_another_sentence() -> None:
    note = Note("queued", by="ada", attempt=2, claim="1f0c")
    assert note.but("running", by="box:0") == Note("running", by="box:0", attempt=2, claim="1f0c")
