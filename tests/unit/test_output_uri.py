"""Where a task keeps its models and artifacts, and what `Task.init` does where an agent runs it."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

from clearflow import links
from clearflow.client import checkpoints, door, spooling
from clearflow.client.models import OutputModel
from clearflow.client.task import Task
from clearflow.errors import Refused, Usage
from clearflow.service import models, spool
from clearflow.service.spool import Spool, piece_of
from clearflow.settings import settings
from clearflow.words.places import Place


def test_what_output_uri_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    said = [None, True, False, "s3://bucket/folder", "out", Path("out")]
    folder = str(tmp_path / "out")
    assert [spooling.output_of(each) for each in said] == [*said[:4], folder, folder]
    for wrong in (3, "", ["a"]):
        with pytest.raises(Usage, match="output_uri is"):
            Task.init("Alice", "train", output_uri=wrong)  # type: ignore[arg-type]


async def test_a_place_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for wrong in (str(tmp_path / "file" / "in"), "nowhere://bucket"):
        with pytest.raises(Refused, match="cannot be used") as told:
            await links.check(wrong)
        assert "\n" not in told.value.message
    await links.check(str(tmp_path / "new" / "deep"))
    assert list((tmp_path / "new" / "deep").iterdir()) == []


@pytest.fixture
def of_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A task that names a place, known to a spool without a server."""
    seen = {"id": "1234", "name": "train/a", "project": "Alice", "output": str(tmp_path / "out")}

    async def one(api: Any, task: str) -> Any:
        return task

    async def place(api: Any) -> Place:
        return Place(str(tmp_path / "store"))

    monkeypatch.setenv("CLEARFLOW_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    monkeypatch.setattr("clearflow.service.spool.finding.one", one)
    monkeypatch.setattr(spool, "describe", lambda api, run: seen)
    monkeypatch.setattr("clearflow.service.spool.places.store_place", place)
    return seen


async def test_results_are_kept_below_a_folder_of_the_task(
    of_task: dict[str, Any], tmp_path: Path
) -> None:
    api: Any = None
    verbs = Spool(api, "tester").verbs()
    name = "ab" * 16
    for piece in (b"one ", b"two"):
        await verbs["spool"](name, base64.b64encode(piece).decode())
    kept = await verbs["keep"](name, "1234", "models/net/net.pt")
    file = tmp_path / "out" / "Alice" / "train_a.1234" / "models" / "net" / "net.pt"
    assert file.read_bytes() == b"one two"
    assert [each.name for each in file.parent.iterdir()] == ["net.pt"]
    assert spool.is_stored(kept)
    assert await piece_of(api, kept, 0) == (b"one two", 7)
    assert models._checked({"content": kept}) == {
        "content": kept.removeprefix("elsewhere:").partition("@")[0],
        "url": str(file),
    }


class Answers:
    """Answers a program as a supervisor does; the task keeps its results at `output`."""

    def __init__(self, output: str | bool | None) -> None:
        self.output = output
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def ask(self, verb: str, **said: Any) -> Any:
        self.asked.append((verb, said))
        if verb == "keep":
            return f"elsewhere:{'0' * 64}@/out/net.pt"
        return {"id": "t", "name": "train", "output": self.output, "url": "", "content": ""}

    def of(self, verb: str) -> list[dict[str, Any]]:
        return [said for each, said in self.asked if each == verb]


def there(monkeypatch: pytest.MonkeyPatch, output: str | bool | None = None) -> Answers:
    """This program is a task that an agent runs."""
    made = Answers(output)
    monkeypatch.setattr(door, "ask", made.ask)
    monkeypatch.setattr(door, "inside", lambda: True)
    monkeypatch.setattr(Task, "_current", None)
    monkeypatch.setattr(Task, "_closed", False)
    monkeypatch.setattr(Task, "_asked_name", None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(spooling, "outputs", {})
    return made


def init(name: str, **more: Any) -> Task:
    more |= {"auto_connect_arg_parser": False, "auto_connect_frameworks": False}
    return Task.init("Alice", name, **more)


def test_a_task_keeps_its_place_where_an_agent_runs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = there(monkeypatch, "/out")
    init("train", output_uri="/elsewhere")
    assert answers.of("output") == [], "what is said there does not count"
    (tmp_path / "net.pt").write_bytes(b"w")
    OutputModel(name="net").update_weights(tmp_path / "net.pt")
    (kept,) = answers.of("keep")
    assert (kept["task"], kept["path"]) == ("t", "models/net/net.pt")


def test_models_stay_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = there(monkeypatch, output=False)
    init("train")
    (tmp_path / "net.pt").write_bytes(b"w")
    checkpoints._keep(tmp_path / "net.pt", "PyTorch")
    (made,) = answers.of("model.create")
    assert made["about"]["url"] == (tmp_path / "net.pt").as_uri()
    assert answers.of("keep") == []


def test_there_a_program_is_one_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there(monkeypatch)
    first = init("one")
    assert init("one") is init("two") is first, "arguments do not count there"
    first.close()
    assert Task.current_task() is None
    again = init("one", reuse_last_task_id=False, continue_last_task=False)
    assert again == first == Task.current_task()
    assert capsys.readouterr().err == ""
    again.close()
    assert init("two", continue_last_task=True) == first
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "clearflow: no effect here: continue_last_task",
        "clearflow: this program runs as the task 'train':"
        " what it begins as 'two' is reported there too",
    ]
