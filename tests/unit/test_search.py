"""Searches without a server: their settings, who chooses points, what is learnt, what is seen."""

import asyncio
import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clearflow
from clearflow.apps import catalog
from clearflow.automation.search import judging, limits
from clearflow.automation.search.settings import SearchSettings
from clearflow.automation.search.strategies import (
    COMPLETE,
    FAILED,
    PRUNED,
    Ended,
    Strategy,
    strategy,
)
from clearflow.automation.search.trials import STOPPED, Trial
from clearflow.client import door, optimizer
from clearflow.client.optimizers import further
from clearflow.errors import Usage
from clearflow.words.curves import Curve
from clearflow.words.models import Run, State
from clearflow.words.names import REPORTS
from clearflow.words.parallel import Axis, parallel
from clearflow.words.scores import Objective, ranked

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LR = {"kind": "log_uniform", "name": "General/lr", "min_value": -4, "max_value": -1}
DEPTH = {"kind": "integer", "name": "General/depth", "min_value": 1, "max_value": 8}


def told(**more: Any) -> SearchSettings:
    said = {
        "base_task_id": "a",
        "hyper_parameters": [LR, DEPTH],
        "objectives": [{"title": "loss", "series": "validation"}],
        "total_max_jobs": 20,
        **more,
    }
    return SearchSettings.model_validate(json.loads(json.dumps(said)))


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"total_max_jobs": None}, "has no end"),
        ({"hyper_parameters": []}, "needs parameters"),
        ({"optimizer": "grid"}, "no end of them"),
        ({"optimizer": "random", "continue_from": ["a"]}, "is for the optimizer optuna"),
        ({"min_iteration_per_job": 5, "max_iteration_per_job": 4}, "is more than"),
        (
            {"objectives": [{"title": t, "series": "s"} for t in "ab"], "pruner": "MedianPruner"},
            "nobody knows",
        ),
        ({"objectives": [{"title": "a", "series": "s"}] * 2}, "there twice"),
        ({"hyper_parameters": [LR, LR]}, "there twice"),
        ({"hyper_parameters": [{**LR, "min_value": 2}]}, "nothing from 2 to -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(change, words):
    with pytest.raises(Usage, match=words):
        told(**change)


def test_settings_are_the_same_after_a_way_as_json():
    before = told(optimizer="random", seed=3)
    assert SearchSettings.model_validate(before.model_dump(mode="json")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampler": "Tpe"}, "no sampler 'Tpe'"),
        ({"sampler": "BaseSampler"}, "no sampler"),
        ({"pruner": "Median"}, "no pruner 'Median'"),
        ({"sampler_arguments": {"sed": 1}}, "does not know sed"),
        ({"pruner": "ThresholdPruner"}, "cannot be made so"),
    ],
)
def test_samplers_and_pruners_that_optuna_has_not(change, words):
    with pytest.raises(Usage, match=words) as raised:
        strategy(told(**change), "search")
    assert "\n" not in raised.value.message


def test_what_the_program_says_becomes_settings(monkeypatch):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(door, "ask", lambda verb, **said: asked.update({verb: said}) or [])
    from clearflow import UniformParameterRange

    made = optimizer.HyperParameterOptimizer(
        "task",
        [UniformParameterRange("lr", 0.1, 0.5)],
        ["loss", "time"],
        ["validation", "s"],
        ["min", "max_global"],
        optimizer_class="OptimizerBOHB",
        total_max_jobs=5,
        pool_period_min=2,
        save_top_k_tasks_only=-1,
        optuna_sampler="CmaEsSampler",
    )
    said = asked["search.check"]["settings"]
    assert said == made.settings
    assert (said["pruner"], said["sampler"]) == ("HyperbandPruner", "CmaEsSampler")
    assert "save_top_k_tasks_only" not in said
    assert "pool_period_min" not in said
    assert [o["sign"] for o in said["objectives"]] == ["min", "max_global"]
    said.pop("pruner")
    assert SearchSettings.model_validate(said).space.holds({"lr": 0.2})
    unsendable = optuna.pruners.NopPruner()
    vars(unsendable)["hook"] = lambda: None
    wrong: Any
    for wrong, words in (
        ({"optimizer_class": "Bayes"}, "no optimizer"),
        ({"objective_metric_sign": "minimum"}, "no sign"),
        ({"objective_metric_title": ["a", "b"]}, "not as many"),
        ({"optuna_sampler": object()}, "is not of Optuna"),
        ({"optuna_pruner": unsendable}, "this NopPruner cannot be sent"),
    ):
        with pytest.raises(Usage, match=words):
            optimizer.HyperParameterOptimizer(
                "task",
                [UniformParameterRange("lr", 0.1, 0.5)],
                **{"objective_metric_title": "a", "objective_metric_series": "b"} | wrong,
            )


def test_samplers_and_pruners_travel_as_objects():
    """As they are, also into a controller that begins again; and what is none is refused."""
    sampler = optuna.samplers.TPESampler(n_startup_trials=2, seed=1)
    pruner = optuna.pruners.ThresholdPruner(upper=0.5, n_warmup_steps=3)
    said = further({"optuna_sampler": sampler, "optuna_pruner": pruner, "total_max_jobs": 9})
    assert (said["sampler"], said["pruner"]) == ("TPESampler", "ThresholdPruner")
    known = [walk(strategy(told(**said), "s", known=n), range(1, 6)) for n in (0, 0, 3)]
    assert known[0] == known[1] != known[2]
    chooser = strategy(told(**said), "s")
    chooser.ask(1)
    assert not chooser.prunes(1, [(0, 9.0), (1, 9.0)])
    assert chooser.prunes(1, [(0, 9.0), (1, 9.0), (3, 9.0)])
    with pytest.raises(Usage, match="a ThresholdPruner is no sampler"):
        strategy(told(sampler_object=said["pruner_object"]), "s")
    with pytest.raises(Usage, match="cannot be read here"):
        strategy(told(sampler_object="bm90aGluZw=="), "s")
    with pytest.raises(Usage, match="takes no sampler_arguments"):
        told(**said, sampler_arguments={"seed": 1})


def test_scripts_for_clearml_find_names_where_they_look():
    from clearflow import automation

    names = [name for name in dir(automation) if name[0].isupper() and name != "TYPE_CHECKING"]
    assert {"TaskScheduler", "TriggerScheduler", "PipelineController"} < set(names)
    assert set(names) < set(clearflow.__all__)
    assert automation.HyperParameterOptimizer is optimizer.HyperParameterOptimizer
    with pytest.raises(AttributeError, match="Oracle"):
        automation.Oracle  # noqa: B018


# -- strategies -------------------------------------------------------------------------------


def walk(chooser: Strategy, numbers: range, value=lambda p: p["General/lr"] ** 2):
    """Trials one after the other; what each got."""
    points = []
    for number in numbers:
        point = chooser.ask(number)
        assert point is not None
        chooser.ended(number, point, (), Ended(COMPLETE, [value(point)]))
        points.append(dict(point))
    return points


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_the_same_seed_chooses_the_same_points(kind):
    first, again = (walk(strategy(told(optimizer=kind, seed=1), n), range(1, 15)) for n in "ab")
    assert first == again
    assert len({p["General/lr"] for p in first}) == 14
    other = walk(strategy(told(optimizer=kind, seed=2), "a"), range(1, 15))
    assert other != first


def test_a_grid_ends_by_itself():
    depths = {**DEPTH, "max_value": 3}
    grid = strategy(told(optimizer="grid", hyper_parameters=[depths], total_max_jobs=None), "s")
    assert [grid.ask(n) for n in range(1, 5)] == [{"General/depth": d} for d in (1, 2, 3)] + [None]


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_clearml_had_no_resume_of_a_search(kind):
    """ClearML has no resume (#738): its search begins anew."""
    settings = told(optimizer=kind, seed=5)
    before = walk(strategy(settings, "s"), range(1, 7))
    fresh = strategy(settings, "s", known=6)
    for number, point in enumerate(before, start=1):
        fresh.ended(number, point, (), Ended(COMPLETE, [point["General/lr"] ** 2]))
    after = walk(fresh, range(7, 13))
    drawn = [p["General/lr"] for p in (*before, *after)]
    assert len(set(drawn)) == len(drawn)


def test_a_study_made_anew_has_learnt_the_same():
    settings = told()
    space = settings.space
    first = strategy(settings, "s")
    points = walk(first, range(1, 16))
    anew = strategy(settings, "s", known=17)
    for number, point in enumerate(points, start=1):
        anew.ended(number, point, (), Ended(COMPLETE, [point["General/lr"] ** 2]))
    for number, how in ((16, FAILED), (17, COMPLETE)):
        point = space.draw(random.Random(number))
        anew.running(number, point)
        anew.ended(number, point, (), Ended(how, [0.5] if how == COMPLETE else None))
    good = [p["General/lr"] for p in walk(anew, range(18, 38))]
    # It looks where the squares are small, as it has learnt that these are good.
    assert sorted(good)[len(good) // 2] > -2


@pytest.mark.parametrize("kind", ["random", "optuna"])
@pytest.mark.parametrize("made_anew", [False, True])
def test_hopeless_trials_are_pruned(made_anew, kind):
    settings = told(
        optimizer=kind,
        pruner="MedianPruner",
        pruner_arguments={"n_startup_trials": 2, "n_warmup_steps": 1},
        min_iteration_per_job=3,
    )
    chooser = strategy(settings, "s")
    steps = [(i, 1.0 / (i + 1)) for i in range(10)]
    points: dict[int, Any] = {}
    for number in (1, 2):
        points[number] = chooser.ask(number)
        assert not chooser.prunes(number, steps)
        chooser.ended(number, points[number], steps, Ended(COMPLETE, [0.1], 9))
    points[3] = chooser.ask(3)
    bad = [(i, 2.0) for i in range(10)]
    if made_anew:
        chooser = strategy(settings, "s", known=3)
        for number in (1, 2):
            chooser.ended(number, points[number], steps, Ended(COMPLETE, [0.1], 9))
        chooser.running(3, points[3])
    assert not chooser.prunes(3, bad[:3])  # not before the third iteration
    assert not chooser.prunes(3, bad[:3])  # nothing new
    assert chooser.prunes(3, bad)
    chooser.ended(3, points[3], bad, Ended(PRUNED, [2.0], 9))
    assert chooser.ask(4) is not None


def test_a_sampler_that_has_seen_everything_ends_the_search():
    depths = {**DEPTH, "max_value": 3}
    chooser = strategy(told(sampler="BruteForceSampler", hyper_parameters=[depths]), "s")
    found = walk(chooser, range(1, 4), lambda p: 1.0)
    assert sorted(p["General/depth"] for p in found) == [1, 2, 3]
    assert chooser.ask(4) is None


def test_several_objectives_are_learnt_from():
    two = [{"title": "loss", "series": "a"}, {"title": "speed", "series": "b", "sign": "max"}]
    chooser = strategy(told(objectives=two), "s")
    for number in range(1, 15):
        point = chooser.ask(number)
        assert point is not None
        chooser.ended(number, point, (), Ended(COMPLETE, [point["General/lr"], 1.0]))


def test_a_trial_outside_of_changed_ranges_does_no_harm():
    chooser = strategy(told(), "s", known=2)
    outside = {"General/lr": -9.0, "General/depth": 3}
    chooser.running(1, outside)
    chooser.ended(1, outside, (), Ended(COMPLETE, [1.0]))
    chooser.ended(2, {"General/other": 1}, (), Ended(FAILED))
    assert chooser.ask(3) is not None


def test_what_was_launched_before_counts_and_not_what_is_asked_for_again():
    """Killed between launching a trial and hearing of it, the same key finds the old one."""
    chooser = strategy(told(), "s")
    asked = chooser.ask(1)
    assert asked is not None
    real = {**asked, "General/depth": 9 - asked["General/depth"]}
    chooser.ended(1, real, (), Ended(COMPLETE, [1.0]))
    assert chooser.ask(2) is not None


def test_how_a_trial_ended_survives_json():
    ended = Ended(COMPLETE, [0.1, 1e-300], 7, "because")
    assert Ended.parse(json.loads(json.dumps(ended.dump()))) == ended


# -- values and ranks -------------------------------------------------------------------------


def test_the_value_of_an_objective():
    curve = Curve([0, 1, 2], [3.0, 1.0, 2.0])
    values = {
        sign: Objective("loss", "s", sign).value(curve)
        for sign in ("min", "max", "min_global", "max_global")
    }
    assert values == {"min": 2.0, "max": 2.0, "min_global": 1.0, "max_global": 3.0}
    assert Objective("loss", "s").value(Curve([0], [float("nan")])) is None
    best = Objective("loss", "s", "min_global").reached(curve)
    assert best == [(0, 3.0), (1, 1.0), (2, 1.0)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_nothing_stands_behind_what_it_beats(values):
    objectives = [Objective("a", "", "min"), Objective("b", "", "max")]
    order = ranked([(n, v) for n, v in enumerate(values)], objectives)
    assert sorted(order) == list(range(len(values)))
    for place, one in enumerate(order):
        for other in order[:place]:
            a, b = values[one], values[other]
            assert not (a[0] <= b[0] and a[1] >= b[1] and a != b)


@given(st.lists(st.floats(-10, 10), max_size=8))
def test_of_one_objective_the_best_comes_first(values):
    for sign in ("min", "max"):
        objective = Objective("a", "", sign)
        order = ranked([(v, [v]) for v in values], [objective])
        assert order == sorted(values, reverse=sign == "max")


def test_a_search_ends_in_time():
    run = Run(id="1", name="t", state=None)
    ran = replace(run, started=NOW - timedelta(minutes=9), ended=NOW - timedelta(minutes=5))
    runs = replace(run, started=NOW - timedelta(minutes=1))
    began = NOW - timedelta(minutes=10)
    assert limits.until(told(), began, [ran, runs], NOW) is None
    whole = told(optimization_time_limit=15)
    assert limits.until(whole, began, [], NOW) == NOW + timedelta(minutes=5)
    compute = told(compute_time_limit=9)
    assert limits.until(compute, began, [ran, runs, runs], NOW) == NOW + timedelta(minutes=1.5)
    assert limits.until(compute, began, [ran], NOW) is None
    spent = told(compute_time_limit=4)
    assert limits.until(spent, began, [ran], NOW) == NOW


def test_parallel_coordinates_have_a_line_for_each_trial():
    axes = [
        Axis("lr", [0.1, 0.01, 0.001], log=True),
        Axis("<kind>", ["a", "b", None]),
        Axis("loss", [1.0, 2.0, 3.0]),
        Axis("same", [7, 7, 7]),
    ]
    svg = parallel("Trials & errors", axes, [1.0, 0.5, 0.0])
    assert svg.count("<polyline") == 3
    assert "&lt;kind&gt;" in svg
    assert "Trials &amp; errors" in svg


def test_of_a_trial_that_reports_the_search_hears_at_once_and_then_less_often(monkeypatch):
    from clearflow._prefect import events
    from clearflow.tasks import telling

    told: list[str] = []

    async def emit(api, name, resource, **more):
        told.append(name)

    now = [100.0]
    monkeypatch.setattr(events, "emit", emit)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = Run(id="1", name="t", state=None, tags=("search:s",), labels={REPORTS: "yes"})
    trial, plain = telling.Reports(run), telling.Reports(replace(run, labels={}))

    def hours(reports, seconds):
        for _ in range(seconds):
            asyncio.run(reports.tell(None))
            now[0] += 1

    hours(trial, 10)
    assert len(told) == 10
    hours(trial, 3600)
    assert len(told) < 250
    told.clear()
    hours(plain, 5)
    assert not told


def test_events_of_names_and_of_prefixes_are_heard_together():
    """Prefect wants an event to fit the names and the prefixes, and so hears nothing of both."""
    from clearflow._prefect import events

    chosen = events._filter(["prefect.tag.search:s"], ["prefect.flow-run.*", "clearflow.x"])
    assert chosen["filter"]["event"] == {"prefix": ["prefect.flow-run.", "clearflow.x"]}


COMPLETED = State("COMPLETED", "Completed", "exit code 0")
ABORTED = State("CANCELLED", "Cancelled", "aborted by its time limit of 5 minutes")
LOSS = {("loss", "validation"): Curve([0, 4], [3.0, 2.0])}


@pytest.mark.parametrize(
    ("state", "stopped", "curves", "how", "values", "reason"),
    [
        (COMPLETED, "", LOSS, COMPLETE, [2.0], ""),
        (COMPLETED, "", {("loss", "train"): Curve([0], [1.0])}, FAILED, None, "but loss/train"),
        (COMPLETED, "", {("loss", "validation"): Curve([0], [float("nan")])}, FAILED, None, "no n"),
        (State("FAILED", "Failed", "exit code 1"), "", LOSS, FAILED, None, "exit code 1"),
        (State("CRASHED", "Crashed", "out of memory"), "", {}, FAILED, None, "out of memory"),
        (State("CANCELLED", "Cancelled", "aborted by bob"), "", LOSS, FAILED, None, "by bob"),
        # ClearML's limits of iterations and time stop nothing, or leave nothing (#1507).
        (ABORTED, "", LOSS, COMPLETE, [2.0], "time limit"),
        (ABORTED, "it has come to iteration 4 of 4", LOSS, COMPLETE, [2.0], "iteration 4"),
        (ABORTED, "it is out of time", {}, FAILED, None, "but nothing"),
        (ABORTED, "pruned at iteration 4", LOSS, PRUNED, [2.0], "pruned at"),
        # It ended by itself in the moment in which it was stopped.
        (COMPLETED, "pruned at iteration 4", LOSS, PRUNED, [2.0], "pruned at"),
    ],
)
def test_clearml_died_of_a_failed_trial_and_stopped_none(
    state, stopped, curves, how, values, reason
):
    """A bad trial is a failed trial; ClearML's search dies of one (#644)."""
    labels = {STOPPED: stopped} if stopped else {}
    trial = Trial(1, {}, Run(id="1", name="t", state=state, labels=labels))
    found = judging.judged(trial, curves, told().objectives, "aborted")
    assert (found.how, found.values) == (how, values)
    assert reason in found.reason


def test_every_application_can_be_shown_with_a_word_on_each_setting():
    for app in catalog.APPS:
        fields = app.fields()
        assert fields
        assert [name for name, field in fields.items() if not field.get("description")] == []
        assert app.schema()["properties"]
    with pytest.raises(Usage, match="search: base_task_id: Field required"):
        catalog.named("search").settings({})
