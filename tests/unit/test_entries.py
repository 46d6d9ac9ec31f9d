"""Entries of the registry: what a log of records makes of them, in any order of writing."""

from hypothesis import given
from hypothesis import strategies as st

from clearflow.words import entries
from clearflow.words.entries import Entry, Record, folded


def record(what: str, second: int = 0, **fields: object) -> Record:
    return Record(what, f"2026-11-27T10:00:{second:02d}+00:00", "ada", None, fields)


BEGUN = record(
    entries.CREATED, name="digits", project="Vision", version="1.0.0", tags=["raw"], about={"x": 1}
)


def of(*records: Record) -> Entry:
    entry = folded(entries.DATASET, "id", [BEGUN, *records])
    assert entry is not None
    return entry


def test_an_entry_is_what_its_records_say():
    entry = of(
        record(entries.FINALIZED, 9, about={"files": 3}),
        record(entries.TAGGED, 1, tags=["a", "b"]),
        record(entries.NOTED, 2, about={"x": 2}),
        record(entries.UNTAGGED, 3, tags=["raw", "a"]),
        record(entries.TAGGED, 4, tags=["a"]),
        record(entries.PUBLISHED, 5),
        record(entries.ARCHIVED, 6),
    )
    assert entry.tags == ("b", "a")
    assert (entry.status, entry.archived, entry.deleted) == (entries.PUBLISHED, True, False)
    assert entry.about == {"x": 2, "files": 3}
    assert entry.changed == "2026-11-27T10:00:09+00:00"
    assert entry.title == "Vision/digits 1.0.0"
    assert Entry.of(entry.seen()) == entry
    assert not of(record(entries.ARCHIVED), record(entries.UNARCHIVED)).archived
    assert of(record(entries.DELETED)).deleted
    assert folded(entries.MODEL, "id", [record(entries.PUBLISHED)]) is None


def test_a_record_comes_back_as_it_was():
    assert Record.parse(BEGUN.dump()) == BEGUN


tag_lists = st.lists(st.sampled_from("abcd"), max_size=3)


@given(st.lists(st.tuples(st.booleans(), tag_lists)))
def test_tags_are_those_that_came_last(changes: list[tuple[bool, list[str]]]):
    expected = {"raw"}
    records = []
    for second, (come, tags) in enumerate(changes):
        expected = expected | set(tags) if come else expected - set(tags)
        records.append(record(entries.TAGGED if come else entries.UNTAGGED, second % 60, tags=tags))
    entry = of(*records)
    assert set(entry.tags) == expected
    assert len(entry.tags) == len(expected)


def test_versions_count_up_by_themselves():
    assert entries.following([]) == "1.0.0"
    assert entries.following(["1.0.0", "1.0.9", "1.0.10"]) == "1.0.11"
    assert entries.following(["2.1.3-rc.1", "first"]) == "2.1.4"
    known = [Entry("dataset", v, "n", "p", version=v) for v in ("1.0.9", "first", "1.0.10")]
    assert [e.version for e in entries.latest_first(known)] == ["1.0.10", "1.0.9", "first"]
