"""Artifacts that follow an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from clearflow.client import live, packing
from clearflow.errors import Usage


class Uploads(list[tuple[str, Any]]):
    def __call__(self, name: str, thing: Any, metadata: Mapping[str, Any] | None = None) -> None:
        self.append((name, thing.copy()))


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    yield Uploads()
    live.settle("t")


def test_what_changes_is_uploaded_again_and_nothing_else(uploads: Uploads) -> None:
    best = {"lr": 1}
    live.follow("t", "best", best, None, uploads)
    assert uploads == [("best", {"lr": 1})]
    live.look()
    assert len(uploads) == 1
    best["lr"] = 2
    live.look("another task")
    assert len(uploads) == 1
    live.look("t")
    assert uploads[-1] == ("best", {"lr": 2})
    assert live.followed("t") == {"best": best}
    best["lr"] = 3
    live.settle("t")
    assert uploads[-1] == ("best", {"lr": 3})
    assert live.followed("t") == {}


def test_what_is_forgotten_stays_as_it_is(uploads: Uploads) -> None:
    rows = [1]
    live.follow("t", "rows", rows, None, uploads)
    live.forget("t", "rows")
    rows.append(2)
    live.look()
    assert uploads == [("rows", [1])]
    with pytest.raises(Usage, match="no artifact 'rows' was registered"):
        live.forget("t", "rows")


def test_an_object_that_changes_while_it_is_looked_at(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def changing(name: str, thing: Any) -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    with monkeypatch.context() as patched:
        patched.setattr(packing, "pack", changing)
        live.follow("t", "restless", {"a": 1}, None, uploads)
        assert uploads == []
    live.look()
    assert uploads == [("restless", {"a": 1})]
    assert capsys.readouterr().err == ""


def test_an_object_that_cannot_be_kept_is_told_once(
    uploads: Uploads, capsys: pytest.CaptureFixture[str]
) -> None:
    live.follow("t", "odd", [lambda: 1], None, uploads)
    live.look()
    assert capsys.readouterr().err.count("the artifact 'odd' is not kept") == 1


@pytest.mark.parametrize("thing", ["text", 3, None, (1, 2)])
def test_what_cannot_change_is_not_followed(thing: Any, uploads: Uploads) -> None:
    with pytest.raises(Usage, match="cannot be followed"):
        live.follow("t", "x", thing, None, uploads)
