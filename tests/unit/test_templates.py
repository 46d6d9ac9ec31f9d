"""Values that are filled in when something fires."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from clearflow.errors import Usage
from clearflow.words.templates import check, filled, references

CONTEXT = {
    "schedule": {
        "date": date(2026, 3, 6),
        "number": 7,
        "time": datetime(2026, 3, 6, 8, 30, 0, 0, UTC),
    },
    "previous": {"id": None, "parameters": {"Args/lr.rate": 0.5}, "values": {"a.b": [1, 2]}},
}


def test_a_reference_that_stands_alone_keeps_its_type() -> None:
    assert filled({"n": ["${schedule.number}", {"m": "${previous.values.a.b}"}]}, CONTEXT) == {
        "n": [7, {"m": [1, 2]}]
    }
    assert filled("${previous.id}", CONTEXT) is None


def test_dates_are_text_of_any_form() -> None:
    assert filled("${schedule.date}", CONTEXT) == "2026-03-06"
    assert filled("${schedule.time}", CONTEXT) == "2026-03-06T08:30:00+00:00"
    assert filled("${schedule.time:%H:%M}", CONTEXT) == "08:30"
    assert (
        filled("run ${schedule.number} of ${schedule.date:%d.%m.%y}", CONTEXT)
        == "run 7 of 06.03.26"
    )


def test_a_part_of_a_text_that_is_nothing_is_empty_and_names_have_dots() -> None:
    assert filled("[${previous.id}]", CONTEXT) == "[]"
    assert filled("${ previous.parameters.Args/lr.rate }", CONTEXT) == 0.5


def test_two_dollars_are_one() -> None:
    assert filled("$${schedule.number} costs $5", CONTEXT) == "${schedule.number} costs $5"
    assert list(references("$${schedule.number} ${a.b}")) == ["a.b"]


@pytest.mark.parametrize("text", ["${schedule.dat}", "${x}", "${}", "a ${previous.values} ${q.r}"])
def test_what_is_not_there_is_said(text: str) -> None:
    with pytest.raises(Usage, match="nobody knows what"):
        filled(text, CONTEXT)


def test_a_form_is_for_dates() -> None:
    with pytest.raises(Usage, match="is no date"):
        filled("${schedule.number:%Y}", CONTEXT)


def test_what_will_not_be_there_is_said_before() -> None:
    known = {"schedule": ["date", "number"], "previous": ["id", "values."]}
    check({"a": "${schedule.date:%Y}", "b": ["x ${previous.values.loss}"]}, known)
    for bad in ("${previous.values.}", "${previous.values}", "${dataset.id}", "${schedule.dates}"):
        with pytest.raises(Usage, match="nobody knows what"):
            check(bad, known)
