"""Filters of tasks, in ClearML's words."""

from __future__ import annotations

from typing import Any

import pytest

from clearflow.errors import Usage
from clearflow.words.filters import Filter

TASKS: list[dict[str, Any]] = [
    {
        "id": "a1", "name": "train big", "project": "Alice", "user": "ada", "tags": ["stable"],
        "comment": "the best so far", "parent": "c3", "properties": {"type": "training"},
        "created": "2026-01-01T00:00:00+00:00", "started": "2026-01-02T00:00:00+00:00",
        "ended": "2026-01-05T00:00:00+00:00", "progress": 5,
    },
    {
        "id": "b2", "name": "train small", "project": "Bob", "user": "bob", "tags": ["stable", "x"],
        "comment": "", "parent": None, "properties": {"type": "testing"},
        "created": "2026-01-02T00:00:00+00:00", "started": "2026-01-02T12:00:00+00:00",
        "ended": None, "progress": 50,
    },
    {
        "id": "c3", "name": "Evaluate", "project": "Alice", "user": "ada", "tags": [],
        "comment": "", "parent": None, "properties": {},
        "created": "2026-01-03T00:00:00+00:00", "started": None, "ended": None, "progress": None,
    },
]  # fmt: skip


def chosen(**said: Any) -> str:
    return " ".join(seen["id"] for seen in Filter.parse(said).chosen(TASKS))


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ({}, "a1 b2 c3"),
        ({"type": ["training", "testing"]}, "a1 b2"),
        ({"type": "testing"}, "b2"),
        ({"user": "ada"}, "a1 c3"),
        ({"project": ["Bob"]}, "b2"),
        ({"parent": "c3"}, "a1"),
        ({"id": ["a1", "c3"]}, "a1 c3"),
        ({"name": "^train"}, "a1 b2"),
        ({"tags": ["__$all", "stable", "x"]}, "b2"),
        ({"tags": ["stable", "-x"]}, "a1"),
        ({"search_text": "BEST"}, "a1"),
        ({"search_text": "bob"}, "b2"),
        ({"_any_": {"fields": ["name", "comment"], "pattern": "best|evaluate"}}, "a1 c3"),
        ({"_all_": {"fields": ["name", "project.name"], "pattern": "l"}}, "c3"),
        ({"_any_": {"fields": ["tags"], "pattern": "^x$"}}, "b2"),
        ({"created": ["2026-01-02", None]}, "b2 c3"),
        ({"created": ["2026-01-02", "2026-01-02"]}, "b2"),
        ({"created": [">2026-01-02"]}, "c3"),
        ({"started": ["<=2026-01-02"]}, "a1"),
        ({"completed": ["2026-01-01", None]}, "a1"),
        ({"last_update": [None, "2026-01-03T01:00:00+01:00"]}, "b2 c3"),
        ({"order_by": ["-created"]}, "c3 b2 a1"),
        ({"order_by": ["name"]}, "c3 a1 b2"),
        ({"order_by": ["-progress"]}, "b2 a1 c3"),
        ({"order_by": ["-user", "-created"]}, "b2 c3 a1"),
        ({"order_by": ["created"], "page_size": 2}, "a1 b2"),
        ({"order_by": ["created"], "page": 1, "page_size": 2}, "c3"),
    ],
)
def test_tasks_are_chosen_and_ordered(said: dict[str, Any], ids: str) -> None:
    assert chosen(**said) == ids


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"colour": "red"}, "does not know colour"),
        ({"created": ["yesterday", None]}, "'yesterday' is no date"),
        ({"order_by": ["-mood"]}, "cannot be ordered by '-mood'"),
        ({"name": "("}, "not a regular expression"),
        ({"_any_": "x"}, "a dictionary of fields and a pattern"),
    ],
)
def test_what_nobody_knows_is_told(said: dict[str, Any], words: str) -> None:
    with pytest.raises(Usage, match=words.replace("(", r"\(")):
        Filter.parse(said)


def test_statuses_are_for_the_server() -> None:
    assert Filter.parse({"status": ["failed"]}).statuses == ("failed",)
