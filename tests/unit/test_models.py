"""Models: which ones fit and in which order, and how programs hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clearflow.client import door
from clearflow.client.model import Model
from clearflow.client.models import InputModel, ModelsList, OutputModel
from clearflow.client.pipelines.engine import model_of
from clearflow.client.task import Task
from clearflow.errors import NotFound, Refused, Usage
from clearflow.models import Wanted, reached, summary
from clearflow.words.entries import Entry
from clearflow.words.references import Reference

OLD = Entry(
    "model", "a" * 32, "net", "Alice", tags=("stable",), created="2026-01-01", task="t1",
    about={"framework": "PyTorch", "metric accuracy": 0.5, "metadata epochs": 3, "used t2": "…"},
)  # fmt: skip
NEW = Entry(
    "model", "b" * 32, "net", "Bob", tags=("stable", "x"), created="2026-01-02",
    status="published", about={"metric accuracy": 0.25, "dataset d1": "digits"},
)  # fmt: skip
AWAY = Entry("model", "c" * 32, "tree", "Bob", created="2026-01-03", archived=True)
ALL = [OLD, NEW, AWAY]


def fitting(**asked: Any) -> str:
    return "".join(e.id[0] for e in ALL if Wanted(**asked).fits(e))


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({}, "ab"),
        ({"include_archived": True}, "abc"),
        ({"project": "Bob"}, "b"),
        ({"name": "net", "project": "Alice"}, "a"),
        ({"tags": ["__$all", "stable", "x"]}, "b"),
        ({"tags": ["stable", "-x"]}, "a"),
        ({"framework": "PyTorch"}, "a"),
        ({"only_published": True}, "b"),
        ({"metadata": {"epochs": 3}}, "a"),
        ({"metadata": {"epochs": 4}}, ""),
        ({"task": "t1"}, "a"),
    ],
)
def test_which_models_fit(asked: dict[str, Any], ids: str) -> None:
    assert fitting(**asked) == ids


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("-created", "cba"),
        ("created", "abc"),
        ("project", "abc"),
        ("metrics.accuracy", "bac"),
        ("-metrics.accuracy", "abc"),
    ],
)
def test_in_which_order(order: str, ids: str) -> None:
    assert "".join(e.id[0] for e in Wanted(order=order).ordered(ALL)) == ids


def test_an_order_that_nobody_knows() -> None:
    with pytest.raises(Usage, match="cannot be ordered by 'beauty'"):
        Wanted(order="beauty").ordered(ALL)


def test_what_is_known_is_told_by_its_kind() -> None:
    seen = summary(OLD)
    assert (seen["framework"], seen["metrics"]) == ("PyTorch", {"accuracy": 0.5})
    assert (seen["metadata"], seen["used_by"]) == ({"epochs": 3}, ["t2"])
    assert summary(NEW)["datasets"] == {"d1": "digits"}
    assert "about" not in seen


def test_a_model_in_a_folder_of_another_machine() -> None:
    away = Entry("model", "d" * 32, "net", "Bob", host="elsewhere:store")
    with pytest.raises(Refused, match="is kept in elsewhere:store"):
        reached(away, "here:store")
    reached(away, "elsewhere:store")
    reached(OLD, "here:store")


class Answers:
    """A door behind which models are kept in a dictionary."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.spooled = b""

    def ask(self, verb: str, **said: Any) -> Any:
        self.asked.append((verb, said))
        if verb == "model.create":
            id = f"{len(self.models)}" * 32
            facts = dict.fromkeys(("framework", "comment", "labels", "design", "content", "url"))
            self.models[id] = {"id": id, "name": said["name"], **facts, **said["about"]}
            return self.models[id]
        if verb == "model.get":
            if said["id"] not in self.models:
                raise NotFound("there is none")
            return self.models[said["id"]]
        if verb == "model.note":
            self.models[said["id"]].update(said.get("about") or {})
        if verb == "model.of":
            return {"input": [], "output": list(self.models.values())}
        if verb == "keep":
            return f"store:{'0' * 64}"
        return None


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    made = Answers()
    monkeypatch.setattr(door, "ask", made.ask)
    monkeypatch.setattr(Task, "_current", None)
    return made


def test_a_model_comes_to_exist_with_its_weights(answers: Answers, tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    file.write_bytes(b"w")
    model = OutputModel(name="net", project="Alice", label_enumeration={"cat": 0})
    model.update_labels({"dog": 1})
    assert answers.asked == [], "whoever waits for models hears of those that have weights"
    model.update_weights(file, iteration=3, auto_delete_file=True)
    verbs = [verb for verb, _ in answers.asked]
    assert verbs.index("keep") < verbs.index("model.create")
    assert answers.models[model.id]["labels"] == {"dog": 1}
    assert (model.hash, answers.models[model.id]["iteration"]) == (f"store:{'0' * 64}", 3)
    assert not file.exists()
    model.update_design(config_dict={"depth": 2})
    assert model.config_dict == {"depth": 2}


def test_weights_at_an_address_are_registered(answers: Answers) -> None:
    model = InputModel.import_model("s3://bucket/net.pt", project="Alice", framework="PyTorch")
    assert (model.name, model.url, model.framework) == ("net.pt", "s3://bucket/net.pt", "PyTorch")
    with pytest.raises(NotFound, match="no weights in the store: it is at s3"):
        model.get_local_copy()
    assert model.get_local_copy(raise_on_error=False) is None


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: OutputModel(name="net"), "needs a name and a project"),
        (lambda: InputModel(), "which model"),
        (lambda: InputModel("x"), "there is none"),
        (lambda: OutputModel(name="a", project="b").update_weights("no.pt"), "no file no.pt"),
        (lambda: OutputModel(name="a", project="b").update_weights(), "a file, or an address"),
        (lambda: Model("x").set_all_metadata({}, replace=True), "stays"),
    ],
)
def test_what_cannot_be_is_told(answers: Answers, act: Any, said: str) -> None:
    with pytest.raises((Usage, NotFound), match=said):
        act()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train.models.output.-1", "2" * 32),
        ("train.models.output.0", "0" * 32),
        ("train.models.output.b", "1" * 32),
        ("train.models.output.-1.url", f"clearflow-model://{'2' * 32}"),
    ],
)
def test_a_pipeline_refers_to_models_of_its_steps(answers: Answers, text: str, found: str) -> None:
    for name in ("a", "b", "a"):
        answers.ask("model.create", name=name, about={})
    assert model_of(Task("t"), Reference.parse(text)) == found
    with pytest.raises(Usage, match=r"has no model output\.7"):
        model_of(Task("t"), Reference.parse("train.models.output.7"))


def test_models_of_a_task_are_had_by_number_and_by_name(answers: Answers) -> None:
    for name in ("a", "b", "a"):
        answers.ask("model.create", name=name, about={})
    several = ModelsList.of(list(answers.models.values()))
    assert several[-1].id == several["a"].id == "2" * 32
    assert (several[0].id, several.keys()) == ("0" * 32, ["a", "b", "a"])
    with pytest.raises(KeyError):
        several["c"]
