"""A controller and its steps, with somebody at the other end who plays the server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clearflow.client import door
from clearflow.client.pipelines.components import Component, PipelineDecorator, component, pipeline
from clearflow.client.pipelines.mirror import fresh
from clearflow.client.pipelines.pipeline import Pipeline
from clearflow.client.pipelines.steps import Step
from clearflow.client.task import Task
from clearflow.errors import NotFound, Usage

Play = Callable[[str, int], str]


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is this file, also where tests run side by side in processes without one."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)


class Server:
    """Answers a controller: each try of a step ends as `play(step, try)` says.

    `known` are the steps of an earlier controller, `cached` those that were done before. A step
    that `play` calls `running` ends when it is aborted.
    """

    def __init__(self) -> None:
        self.play: Play = lambda step, attempt: "completed"
        self.known: list[dict[str, Any]] = []
        self.cached: set[str] = set()
        self.log: list[dict[str, Any]] = []
        self.made: list[dict[str, Any]] = []
        self.aborted: list[str] = []
        self.finished: list[tuple[str, str]] = []
        self.last: list[list[Any]] = []
        self.reports: list[Any] = []
        self.parameters: dict[str, Any] = {}
        self.queues = {"q", "gpu"}

    def ask(self, verb: str, **given: Any) -> Any:
        return getattr(self, "_" + verb.replace("pipeline.", ""))(**given)

    def tell(self, verb: str, **given: Any) -> None:
        self.reports.append(given)

    def _connect(self, section: str, values: Any, **more: Any) -> Any:
        return {**values, **self.parameters}

    def _begin(self, task: str, queues: list[str]) -> Any:
        for queue in queues:
            if queue not in self.queues:
                raise NotFound(f"there is no queue {queue!r}")
        return {"steps": self.known}

    def _base(self, task: str | None = None, **asked: Any) -> Any:
        return {"id": task or "base", "name": "base", "parameters": {}}

    def seen(self, task: str, step: str, attempt: int, status: str, **more: Any) -> dict[str, Any]:
        about = {"id": task, "step": step, "try": attempt, "status": status, "reason": "so it was"}
        return {**about, "node": None, "ran": 0.0, "earlier": False, **more}

    def _step(self, task: str, step: str, attempt: int, **order: Any) -> Any:
        self.made.append({"step": step, "attempt": attempt, **order})
        own = f"{step}#{attempt}"
        cached = step in self.cached
        if not cached:
            status = self.play(step, attempt)
            self.log.append(self.seen(own, step, attempt, "running"))
            if status != "running":
                self.log.append(self.seen(own, step, attempt, status))
        return {**self.seen(own, step, attempt, "queued"), "cached": cached}

    def _await(self, task: str, after: int, timeout: float) -> Any:
        return {"next": len(self.log), "changed": self.log[after:]}

    def _abort(self, task: str) -> None:
        self.aborted.append(task)
        step, _, attempt = task.partition("#")
        self.log.append(self.seen(task, step, int(attempt), "aborted"))

    def _finish(self, task: str, status: str, reason: str) -> None:
        self.finished.append((task, status))

    def _last(self, task: str) -> Any:
        return self.last

    def _artifacts(self, task: str) -> Any:
        return []

    def _end(self, task: str) -> None:
        """Nobody waits any more."""

    def started(self) -> list[str]:
        return [order["step"] for order in self.made]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(Task, "_current", Task("controller", "pipe"))
    door.use(made)
    yield made
    door.use(None)


def work(x: int = 1) -> int:
    return x


def pipe(**options: Any) -> Pipeline:
    made = Pipeline("pipe", "Tests", **options)
    made.set_default_execution_queue("q")
    return made


def test_steps_run_in_order_and_get_what_they_refer_to(server: Server) -> None:
    server.parameters = {"rows": 7}
    made = pipe()
    made.add_parameter("rows", 3)
    made.add_function_step("b", work, {"x": "${a.artifacts.return_object}"})
    made.add_step(
        "a",
        base_task_id="base",
        parameter_override={"Args/rows": "${pipeline.rows}", "General": {"of": "${pipeline.rows}"}},
        execution_queue="gpu",
        task_overrides={"container.image": "python:3.12", "script.branch": "v${pipeline.rows}"},
        configuration_overrides={"c": {"deep": 1}},
    )
    assert made.start_locally()
    first, second = server.made
    assert (first["step"], first["queue"]) == ("a", "gpu")
    assert first["parameters"] == {"Args": {"rows": 7}, "General": {"of": 7}}
    assert first["variables"] == {"image": "python:3.12"}
    assert (first["origin"], second["origin"]) == ({"branch": "v7"}, {})
    assert first["base"] == "base"
    assert second["parameters"] == {"kwargs": {"x": "artifact:a#1/return_object"}}
    assert second["function"]["name"] == "work"
    assert made.is_successful()
    assert [step.name for step in made.get_processed_nodes()] == ["b", "a"]
    assert made.get_running_nodes() == []
    assert made.elapsed() >= 0


def test_what_cannot_be_is_said_before_anything_starts(server: Server) -> None:
    def inner() -> None:
        """Nobody finds it."""

    made = pipe()
    with pytest.raises(Usage, match="nothing to run"):
        made.add_step("a")
    with pytest.raises(Usage, match="unexpected keyword argument 'y'"):
        made.add_function_step("a", work, {"y": 1})
    with pytest.raises(Usage, match="is a lambda"):
        made.add_function_step("a", lambda: 1)
    with pytest.raises(Usage, match="defined inside test_what_cannot_be"):
        made.add_function_step("a", inner)
    with pytest.raises(Usage, match="cannot override"):
        made.add_step("a", base_task_id="x", task_overrides={"script.diff": ""})
    with pytest.raises(Usage, match="a metric is a title and a series"):
        made.add_step("a", base_task_id="x", monitor_metrics=[("loss",)])
    with pytest.raises(Usage, match="no continue behaviour"):
        made.add_step("a", base_task_id="x", continue_behaviour={"continue": True})
    made = pipe()
    made.add_step("a", base_task_id="x", parents=["b"])
    made.add_step("b", base_task_id="x", parameter_override={"Args/x": "${a.id}"})
    with pytest.raises(Usage, match="wait for each other"):
        made.start()
    made = pipe()
    made.add_step("a", base_task_id="x", execution_queue="nowhere")
    with pytest.raises(NotFound, match="no queue 'nowhere'"):
        made.start_locally()
    assert server.made == []


def test_clearml_ran_the_children_of_a_step_that_took_too_long(server: Server) -> None:
    """ClearML counts a step that took too long as done, and runs what comes after it."""
    server.play = lambda step, attempt: "running" if step == "slow" else "completed"
    made = pipe()
    made.add_function_step("slow", work, time_limit=0.01)
    made.add_function_step("after", work, parents=["slow"])
    assert not made.start_locally()
    assert server.started() == ["slow"]
    assert server.aborted == ["slow#1"]
    assert ("slow#1", "failed") in server.finished
    nodes = made.get_pipeline_dag()
    assert (nodes["slow"].status, nodes["after"].status) == ("failed", "skipped")
    assert "took longer than 0.01 s" in nodes["slow"].reason


def test_clearml_died_of_a_time_limit_while_the_step_was_queued(server: Server) -> None:
    """ClearML's controller dies of a limit for a step that has not begun."""
    made = pipe()
    made.add_function_step("a", work, time_limit=0.01)
    server.log.append(server.seen("a#1", "a", 1, "queued"))
    assert made.start_locally()
    assert server.aborted == []


def test_the_time_limit_of_the_pipeline_stops_it(server: Server) -> None:
    server.play = lambda step, attempt: "running"
    made = pipe()
    made.set_pipeline_execution_time_limit(0.0005)
    made.add_function_step("a", work)
    made.add_function_step("b", work, parents=["a"])
    assert not made.start_locally()
    assert server.aborted == ["a#1"]
    assert server.finished[-1] == ("controller", "failed")


def test_retries_have_keys_of_their_own_and_end(server: Server) -> None:
    server.play = lambda step, attempt: "completed" if attempt == 3 else "failed"
    made = pipe(retry_on_failure=1)
    made.add_function_step("a", work, retry_on_failure=2)
    made.add_function_step("b", work)
    made.add_function_step("c", work, parents=["a"])
    assert not made.start_locally()
    tries = [(order["step"], order["attempt"]) for order in server.made if order["step"] != "c"]
    assert sorted(tries) == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]
    assert made.get_pipeline_dag()["c"].status == "failed"


def test_a_function_may_decide_on_tries(server: Server) -> None:
    server.play = lambda step, attempt: "crashed"
    asked: list[tuple[str, int]] = []

    def again(owner: Pipeline, step: Step, tries: int) -> bool:
        asked.append((step.name, tries))
        return tries < 2

    made = pipe()
    made.add_function_step("a", work, retry_on_failure=again)
    assert not made.start_locally()
    assert asked == [("a", 1), ("a", 2)]


def test_clearml_called_a_pipeline_with_a_cached_step_a_failed_one(server: Server) -> None:
    """ClearML calls a pipeline a failed one when a step was done before."""
    server.cached = {"a"}
    made = pipe()
    made.add_function_step("a", work, cache_executed_step=True)
    made.add_function_step("b", work, parents=["a"])
    assert made.start_locally()
    assert made.is_successful()
    assert made.get_pipeline_dag()["a"].status == "cached"


def test_five_hundred_cached_steps_in_a_row(server: Server) -> None:
    server.cached = {f"s{n}" for n in range(500)}
    made = pipe()
    for n in range(500):
        made.add_function_step(f"s{n}", work, parents=[f"s{n - 1}"] if n else None)
    assert made.start_locally()
    assert len(server.made) == 500


def test_callbacks_skip_change_and_hear(server: Server) -> None:
    heard: list[Any] = []
    made = pipe()

    def before(owner: Pipeline, step: Step, parameters: dict[str, Any]) -> bool:
        assert owner is made
        parameters["kwargs"] = {"x": 5}
        return step.name != "skipped"

    options: dict[str, Any] = {
        "pre_execute_callback": before,
        "post_execute_callback": lambda owner, step: heard.append((step.name, step.executed)),
        "status_change_callback": lambda owner, step, was: heard.append((step.name, was)),
    }
    made.add_function_step("a", work, **options)
    made.add_function_step("skipped", work, **options)
    made.add_function_step("never", work, parents=["skipped"])
    assert made.start_locally()
    assert server.started() == ["a"]
    assert server.made[0]["parameters"] == {"kwargs": {"x": 5}}
    assert heard == [
        ("a", "waiting"),
        ("skipped", "waiting"),
        ("a", "a#1"),
        ("a", "running"),
    ]
    assert made.get_pipeline_dag()["never"].status == "skipped"


def test_a_callback_that_fails_ends_the_pipeline_and_not_silently(server: Server) -> None:
    def broken(*of: Any) -> None:
        raise ValueError("no")

    made = pipe()
    made.add_function_step("a", work, pre_execute_callback=broken)
    assert not made.start_locally()
    assert made.get_pipeline_dag()["a"].reason == "ValueError: no"
    server.play = lambda step, attempt: "completed" if step == "a" else "running"
    made = pipe()
    made.add_function_step("a", work, post_execute_callback=broken)
    made.add_function_step("other", work)
    assert not made.start_locally()
    assert server.aborted == ["other#1"]


def test_clearml_continued_a_dead_controller_from_scratch(server: Server) -> None:
    """ClearML begins from scratch."""
    server.known = [
        server.seen("done", "a", 1, "completed"),
        server.seen("old", "b", 1, "failed"),
        server.seen("runs", "b", 2, "running"),
    ]
    server.log.append(server.seen("runs", "b", 2, "completed"))
    made = pipe()
    heard: list[str] = []
    made.add_function_step("a", work, post_execute_callback=lambda o, step: heard.append(step.name))
    made.add_function_step("b", work, parents=["a"], retry_on_failure=1)
    made.add_function_step("c", work, parents=["b"])
    assert made.start_locally()
    assert server.started() == ["c"]
    assert heard == ["a"]


def test_a_pipeline_that_is_queued_again_goes_on_where_it_failed(server: Server) -> None:
    server.known = [
        server.seen("done", "a", 1, "completed", earlier=True),
        server.seen("bad", "b", 1, "failed", earlier=True),
    ]
    made = pipe()
    made.add_function_step("a", work)
    made.add_function_step("b", work, parents=["a"])
    assert made.start_locally()
    assert [(o["step"], o["attempt"]) for o in server.made] == [("b", 2)]


def test_abort_on_failure_aborts_what_runs(server: Server) -> None:
    server.play = lambda step, attempt: {"a": "failed"}.get(step, "running")
    made = pipe(abort_on_failure=True)
    made.add_function_step("b", work)
    made.add_function_step("a", work)
    made.add_function_step("c", work, parents=["b"])
    assert not made.start_locally()
    assert server.aborted == ["b#1"]
    assert server.started() == ["b", "a"]


def test_a_step_that_was_deleted_has_failed(server: Server) -> None:
    server.play = lambda step, attempt: "deleted"
    made = pipe()
    made.add_function_step("a", work)
    assert not made.start_locally()


def test_clearml_mirrored_only_increases() -> None:
    """ClearML mirrors a value only when it is larger than the one before: a loss never moves."""
    told: dict[tuple[str, str], tuple[int, float]] = {}
    wanted = {("loss", "train"): ("loss", "best")}
    rows = [["loss", "train", 3.0, 3.0, 3.0, 1], ["other", "x", 1.0, 1.0, 1.0, 1]]
    assert fresh(wanted, rows, told) == [("loss", "best", 3.0, 1)]
    assert fresh(wanted, rows, told) == []
    assert fresh(wanted, [["loss", "train", 1.0, 1.0, 3.0, 2]], told) == [("loss", "best", 1.0, 2)]


@component(return_values=["a", "b"], queue="gpu")
def two(x: int) -> tuple[int, int]:
    return x, x + 1


@component
def total(numbers: list[int], base: int = 0) -> int:
    return sum(numbers) + base


def test_components_are_functions_outside_of_pipelines() -> None:
    assert two(1) == (1, 2)
    assert isinstance(two, Component)


def test_promises_are_passed_on_without_being_looked_at(server: Server) -> None:
    @pipeline(name="p", pipeline_execution_queue=None, default_queue="q")
    def run(x: int = 1) -> None:
        a, b = two(x)
        total([a, b], base=3)
        total([b])

    run(x=4)
    orders = {order["step"]: order for order in server.made}
    assert orders["two"]["parameters"] == {"kwargs": {"x": 4}}
    assert orders["two"]["queue"] == "gpu"
    numbers = ["artifact:two#1/a", "artifact:two#1/b"]
    assert orders["total"]["parameters"] == {"kwargs": {"numbers": numbers, "base": 3}}
    assert orders["total_2"]["parameters"] == {"kwargs": {"numbers": ["artifact:two#1/b"]}}
    assert orders["total"]["queue"] == "q"


def test_who_looks_at_what_a_failed_step_returns_is_told(server: Server) -> None:
    server.play = lambda step, attempt: "failed"

    @pipeline(name="p", pipeline_execution_queue=None, default_queue="q")
    def run() -> None:
        if total([1]) > 3:
            total([2])

    with pytest.raises(SystemExit, match="the step 'total' failed: so it was"):
        run()
    assert server.started() == ["total"]
    assert server.finished[-1] == ("controller", "failed")


def test_debug_pipeline_calls_functions(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clearflow.client.pipelines.components._mode", None)
    PipelineDecorator.debug_pipeline()

    @pipeline(name="p")
    def run() -> int:
        return total(list(two(1)))

    assert run() == 3
    assert server.made == []
