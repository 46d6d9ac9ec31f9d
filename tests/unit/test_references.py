"""What stands between ${ and } in the parameters of steps."""

from __future__ import annotations

import pytest

from clearflow.errors import Usage
from clearflow.words.references import (
    Reference,
    address,
    artifact,
    artifact_of,
    artifacts_in,
    check,
    filled,
    steps_of,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a.id", Reference("a", "id")),
        ("stage data.artifacts.raw.csv", Reference("stage data", "artifacts", "raw.csv")),
        ("a.artifacts.raw.csv.url", Reference("a", "artifacts", "raw.csv", "url")),
        ("a.artifacts.x.hash", Reference("a", "artifacts", "x", "hash")),
        ("a.parameters.Args/lr", Reference("a", "parameters", "Args/lr")),
        ("a.models.output.-1", Reference("a", "models", "output.-1")),
        ("a.models.output.-1.url", Reference("a", "models", "output.-1", "url")),
        ("pipeline.query_date", Reference("pipeline", "pipeline", "query_date")),
    ],
)
def test_a_reference_says_of_what_it_is(text: str, meant: Reference) -> None:
    assert Reference.parse(text) == meant


@pytest.mark.parametrize("text", ["", "a", "a.", "a.nothing", "a.artifacts.", "a.models.x.1"])
def test_what_means_nothing_is_said(text: str) -> None:
    with pytest.raises(Usage, match="nobody knows what"):
        Reference.parse(text)


def test_a_reference_that_stands_alone_keeps_its_type() -> None:
    known = {"x": 3, "y": [1, 2]}

    def look(reference: Reference) -> object:
        return known[reference.name]

    value = {"a": "${pipeline.x}", "b": ["${pipeline.y}", "x=${pipeline.x}, ${pipeline.y}"], "c": 1}
    assert filled(value, look) == {"a": 3, "b": [[1, 2], "x=3, [1, 2]"], "c": 1}


def test_steps_that_are_referred_to() -> None:
    assert steps_of({"a": "${one.id}-${two.id}", "b": [{"c": "${one.artifacts.x}"}, 3]}) == [
        "one",
        "two",
    ]
    assert steps_of("${pipeline.x}") == []


def test_an_unknown_reference_is_said_at_definition() -> None:
    check("b", "${a.id} ${pipeline.x}", ["a", "b"], ["x"])
    with pytest.raises(Usage, match="'b' refers to 'c', which is no other step"):
        check("b", "${c.id}", ["a", "b"], [])
    with pytest.raises(Usage, match="'b' refers to 'b', which is no other step"):
        check("b", "${b.id}", ["a", "b"], [])
    with pytest.raises(Usage, match=r"\$\{pipeline.y\}, which the pipeline does not have"):
        check("b", "${pipeline.y}", ["a", "b"], ["x"])


def test_artifacts_in_parameters() -> None:
    both = [artifact("t", "x/y"), {"u": address("t", "z")}, "artifact:", "plain", 3]
    assert artifacts_in(both) == [("t", "x/y"), ("t", "z")]
    assert artifact_of(address("t", "z")) is None
    assert artifact_of(artifact("t", "x/y")) == ("t", "x/y")
