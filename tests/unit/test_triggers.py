"""When triggers fire: pure, by the names of ClearML's mistakes where it made one."""

from typing import Any

import pytest

from clearflow.automation import triggers as engine
from clearflow.automation.reactions import Trigger, parsed
from clearflow.automation.triggers import Group
from clearflow.errors import NotFound, Usage
from clearflow.words import triggers
from clearflow.words.crossings import Condition, Watch
from clearflow.words.triggers import DATASET, MODEL, TASK, Fact, When, expected, misfit

LAUNCH = {"task": "11111111-1111-1111-1111-111111111111"}


def fact(what: str, *tags: str, kind: str = DATASET, **more: Any) -> Fact:
    said = {"id": "1", "name": "pictures", "project": "Alice", "tags": tags, "status": "finalized"}
    return Fact.parse(kind, what, said | {"changed": list(tags) if what == "tagged" else []} | more)


def fires(when: When, happened: Fact) -> bool:
    return misfit(when, happened) is None


def test_clearml_all_of_the_tags_meant_any_of_them() -> None:
    when = When(DATASET, tags=("a", "b"))
    assert not fires(when, fact("tagged", "a"))
    assert not fires(when, fact("tagged", "b", "c"))
    assert fires(when, fact("tagged", "a", "b", "c"))
    assert fires(when, fact("tagged", "a", "b", changed=["b"]))


def test_clearml_required_tags_were_ored_with_the_others() -> None:
    when = When(DATASET, tags=("new",), required_tags=("checked", "clean"))
    assert not fires(when, fact("tagged", "new", "checked"))
    assert fires(when, fact("tagged", "new", "checked", "clean"))


def test_any_tags_are_one_of_them() -> None:
    when = When(MODEL, any_tags=("a", "b"), required_tags=("ok",))
    assert fires(when, fact("tagged", "b", "ok", kind=MODEL))
    assert not fires(when, fact("tagged", "ok", "c", kind=MODEL))
    assert not fires(when, fact("tagged", "b", kind=MODEL))
    assert fires(when, fact("created", "a", "ok", kind=MODEL, changed=["a", "ok"]))


def test_clearml_fired_for_any_update_of_a_thing_that_fits() -> None:
    when = When(DATASET, tags=("production",))
    assert not fires(when, fact("tagged", "production", "x", changed=["x"]))
    assert not fires(when, fact("published", "production", status="published"))
    assert not fires(when, fact("untagged", "production"))


def test_clearml_never_fired_twice_for_the_same_thing() -> None:
    """Nothing is remembered of what has fired: each event is judged by itself."""
    when = When(DATASET, tags=("production",))
    assert [fires(when, fact("tagged", "production")) for _ in range(3)] == [True] * 3


def test_a_dataset_that_is_not_finalized_fires_when_it_is() -> None:
    when = When(DATASET, tags=("production",))
    assert not fires(when, fact("tagged", "production", status="created"))
    assert fires(when, fact("finalized", "production"))
    assert not fires(when, fact("finalized"))
    assert fires(When(DATASET), fact("finalized"))


@pytest.mark.parametrize("what", ["published", "archived"])
def test_clearml_had_no_archive_of_tasks_and_publishing_may_come_with_tags(what: str) -> None:
    for kind in (DATASET, MODEL, TASK):
        when = When(kind, tags=("best",), publish=what == "published", archive=what == "archived")
        assert fires(when, fact(what, "best", kind=kind, status=what))
        assert not fires(when, fact(what, kind=kind, status=what))
        tags = ("best", what) if kind == TASK else ("best",)
        status = "completed" if kind == TASK else what
        assert fires(when, fact("tagged", *tags, kind=kind, status=status, changed=["best"]))
        assert not fires(when, fact("tagged", "best", kind=kind, status="completed"))


def test_clearml_projects_are_exact_and_names_are_searched() -> None:
    when = When(DATASET, project="Alice", name="^pic.*s$")
    assert fires(when, fact("finalized"))
    assert not fires(when, fact("finalized", project="Alice/sub"))
    assert not fires(when, fact("finalized", name="a picture"))


def test_a_task_by_status_and_tags_whichever_comes_last() -> None:
    when = When(TASK, statuses=("failed",), tags=("nightly",))
    assert fires(when, fact("failed", "nightly", kind=TASK, status="failed"))
    assert fires(when, fact("crashed", "nightly", kind=TASK, status="crashed"))
    assert not fires(when, fact("failed", kind=TASK, status="failed"))
    assert fires(when, fact("tagged", "nightly", kind=TASK, status="failed"))
    assert not fires(when, fact("tagged", "nightly", kind=TASK, status="running"))
    assert not fires(when, fact("completed", "nightly", kind=TASK, status="completed"))


def test_clearml_a_threshold_of_zero_was_dropped() -> None:
    when = parsed(
        {"name": "low", "kind": "task", "metric": "loss", "threshold": 0, "launch": LAUNCH}
    ).when()
    assert when.threshold == 0.0
    assert when.words == "a task has loss at most 0"
    assert not fires(when, fact("completed", kind=TASK, status="completed"))
    assert fires(when, fact("metric", kind=TASK, status="running", metric="loss", value=-1.0))
    assert expected(when) == ["clearflow.task.metric"]


def test_clearml_unnamed_triggers_collapsed_into_one() -> None:
    from clearflow.client import door
    from clearflow.client.triggers import TriggerScheduler

    class Deaf:
        def ask(self, verb: str, **arguments: Any) -> None:
            assert verb == "trigger.check"

    door.use(Deaf())
    try:
        made = TriggerScheduler()
        made.add_dataset_trigger("1", trigger_project="A", trigger_on_tags=["a", "b"])
        made.add_dataset_trigger("1", trigger_project="A", trigger_on_publish=True)
        made.add_task_trigger("1", trigger_on_metric="loss", trigger_on_threshold=0)
        with pytest.raises(Usage, match="two triggers have the name 'dataset A a b'"):
            made.add_dataset_trigger("1", trigger_project="A", trigger_on_tags=["a", "b"])
        with pytest.raises(TypeError, match="no argument 'trigger_tags'"):
            made.add_model_trigger("1", trigger_tags=["a"])
        with pytest.raises(Usage, match="a task runs a function"):
            made.add_dataset_trigger(schedule_function=print)
        names = list(made._triggers)
    finally:
        door.use(None)
    assert names == ["dataset A a b", "dataset A on publish", "task loss 0"]


def test_what_an_automation_is_told_to_listen_to() -> None:
    group = Group("g", "name", "project", "services")

    def ears(**words: Any) -> list[dict[str, Any]]:
        asked = Trigger.model_validate({"name": "t", "launch": LAUNCH, **words})
        return engine.ears(group, asked, asked.when())

    (one,) = ears(kind="dataset", project="!A[1]", tags=["a"], any_tags=["b"])
    assert one["expect"] == ["clearflow.dataset.finalized", "clearflow.dataset.tagged"]
    assert one["match"] == {
        "prefect.resource.id": "clearflow.dataset.*",
        "clearflow.project": "?A[[]1]",
        "clearflow.tag.a": "*",
    }
    states, ours = ears(kind="task", project="A", statuses=["failed", "published"], tags=["a"])
    assert states["expect"] == ["prefect.flow-run.Failed", "prefect.flow-run.Crashed"]
    assert {"prefect.resource.role": "flow", "prefect.resource.name": "!⚡ *"} in states[
        "match_related"
    ]
    # What a run got later its events do not say.
    assert "prefect.tag.a" not in str(states)
    assert ours["expect"] == ["clearflow.task.published", "clearflow.task.tagged"]
    (metric,) = ears(kind="task", metric="loss", threshold=1)
    assert metric["match"]["clearflow.trigger"] == triggers.metric_key("g", "t")


def test_words_and_what_there_is_to_say() -> None:
    happened = fact("tagged", "production", by="bob", version="1.0.1", task=None)
    assert happened.words == "the dataset Alice/pictures 1.0.1 was tagged 'production' by bob"
    said = triggers.context(happened)
    assert said["version"] == "1.0.1"
    assert set(said) == {name for name in triggers.known(DATASET)[DATASET]}
    when = When(TASK, "A", "x", statuses=("failed",), tags=("a", "b"), any_tags=("c",))
    assert when.words == ("a task of 'A' like 'x' is failed, is tagged 'a' and 'b', is tagged 'c'")


def test_bad_input() -> None:
    with pytest.raises(Usage, match="no sign"):
        triggers.sign_of("lower")
    with pytest.raises(NotFound, match="nothing in a project 'Alica'") as caught:
        triggers.check_project("Alica", {"Alice", "Bob"})
    assert caught.value.hint == "did you mean 'Alice'?"
    with pytest.raises(Usage, match="nan"):
        triggers.check(When(TASK, metric="loss", threshold=float("nan")))
    with pytest.raises(Usage, match="of which metric"):
        triggers.check(When(TASK, threshold=0.0))
    assert [triggers.sign_of(w) for w in ("minimum", "max", "maximum")] == ["min", "max", "max"]
    assert triggers.status_of("Crashed") == "crashed"
    assert triggers.status_of("Cancelled") == "aborted"
    assert triggers.status_of("Late") is None


def test_clearml_a_metric_that_crosses_again_never_fired_again() -> None:
    watch = Watch()
    low = Condition("low", "loss", "train", 0.0, "min")
    high = Condition("high", "loss", None, 2.0, "max", "Alice")
    watch.conditions = [low, high]

    def look(values: list[float], series: str = "train", project: str = "Alice") -> list[Any]:
        found = watch.look(project, "loss", series, range(len(values)), values)
        return [(each.key, each.value) for each in found]

    assert look([1.0, 0.5, 0.0, -1.0]) == [("low", 0.0)]
    assert look([-1.0, float("nan"), -2.0]) == []
    assert look([0.1, -0.1, 3.0]) == [("low", -0.1), ("high", 3.0)]
    assert look([2.5, 1.0, 2.0]) == [("high", 2.0)]
    assert look([9.0, -9.0], "test") == [("high", 9.0)]
    assert look([1.0, 9.0], "test", "Bob") == []
    assert list(watch.look("Alice", "acc", "train", [1], [-5.0])) == []
