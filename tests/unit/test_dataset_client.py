"""What a program sees of a dataset without a server: paths in containers, and the bar."""

import json
import sys

import pytest

from clearflow.client import dataset_files, door, watching
from clearflow.errors import Refused
from clearflow.words.environ import PATHS


def test_paths_of_a_container_are_those_of_its_machine_outside(monkeypatch: pytest.MonkeyPatch):
    outside = {"/clearflow/code": "/machine/run/code", "/clearflow/datasets": "/machine/datasets"}
    monkeypatch.setenv(PATHS, json.dumps(outside))
    assert dataset_files._absolute("/clearflow/code/data") == "/machine/run/code/data"
    assert dataset_files._inside("/machine/datasets/abc") == "/clearflow/datasets/abc"
    assert dataset_files._inside("/elsewhere") == "/elsewhere"
    for path in ("/data", "/clearflow/codes", "/clearflow/code/../other"):
        with pytest.raises(Refused, match="inside of the container alone"):
            dataset_files._absolute(path)
    monkeypatch.delenv(PATHS)
    assert dataset_files._absolute("/data/../x") == "/x"


def test_a_bar_says_how_far_it_is():
    assert watching.line("sent", 500_000_000, 2_000_000_000, 2.0).rstrip() == (
        "[#######.......................] 0.5 of 2.0 GB sent, 250 MB/s"
    )
    assert "0.0 of 0.0 MB" in watching.line("sent", 0, 0, 0.0)
    assert watching.line("sent", 9, 3, 1.0).startswith(f"[{'#' * 30}]")


def test_nobody_watches_without_a_terminal(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, dict[str, object]]] = []

    class Somebody:
        def ask(self, verb: str, **arguments: object) -> str:
            asked.append((verb, arguments))
            return "done"

    door.use(Somebody())
    try:
        assert watching.watched("sent", "dataset.upload", id="x") == "done"
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        assert watching.watched("sent", "dataset.upload", show=False, id="x") == "done"
    finally:
        door.use(None)
    assert asked == [("dataset.upload", {"id": "x"})] * 2
