"""Which fires are launched, by the policy for those that were missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clearflow.errors import Usage
from clearflow.words import launches
from clearflow.words.fires import ALL, GRACE, MOST, ONCE, SKIP, Cursor, check_policy, key, plan

NOW = datetime(2026, 3, 6, 12, tzinfo=UTC)


def ago(*minutes: float) -> list[datetime]:
    return [NOW - timedelta(minutes=each) for each in minutes]


def test_all_are_launched_in_order_and_each_once() -> None:
    assert plan(ago(0, 60, 30, 60), NOW, ALL).launch == ago(60, 30, 0)


def test_after_a_long_time_the_latest_are_made_up_for() -> None:
    found = plan(ago(*range(MOST + 50)), NOW, ALL)
    assert (len(found.launch), found.passed) == (MOST, 50)
    assert found.launch[-1] == NOW


def test_once_is_the_last_one() -> None:
    found = plan(ago(120, 60, 1), NOW, ONCE)
    assert (found.launch, found.passed) == (ago(1), 2)


def test_skip_launches_what_has_just_been_due() -> None:
    late = GRACE.total_seconds() / 60
    found = plan(ago(600, late + 1, late, 0), NOW, SKIP)
    assert (found.launch, found.passed) == (ago(late, 0), 2)
    assert plan(ago(600), NOW, SKIP).launch == []


def test_a_policy_that_there_is_not_is_said() -> None:
    with pytest.raises(Usage, match="missed='sometimes'"):
        check_policy("sometimes")


def test_a_cursor_comes_back_as_it_was() -> None:
    cursor = Cursor(NOW, 3, "task")
    assert Cursor.parse(cursor.dump()) == cursor


def test_keys_of_two_moments_or_two_schedules_differ() -> None:
    keys = {key(s, at) for s in ("a", "b") for at in ago(0, 1)}
    assert len(keys) == 4
    assert len({launches.key_tag(k) for k in keys}) == 4


def test_parameters_that_a_task_does_not_have_are_said_before() -> None:
    has = {"Args": {"lr": 0.1, "model": {"depth": 3}}, "General": {"date": ""}, "arguments": []}
    launches.check_parameters(["Args/lr", "Args/model", "Args/model/depth", "date"], has, "task")
    launches.check_parameters(["anything"], {"arguments": []}, "a task that has never run")
    with pytest.raises(Usage, match="task has no parameter 'Args/rl'") as raised:
        launches.check_parameters(["Args/rl"], has, "task")
    assert raised.value.hint == "did you mean 'Args/lr'?"


def test_a_name_without_a_section_is_an_argument_of_a_flow() -> None:
    assert launches.wanted({"n": 1, "Args/lr": 2}, flow=True) == {"n": 1, "Args": {"lr": 2}}
    assert launches.wanted({"n": 1}, flow=False) == {"General": {"n": 1}}


def test_overrides_are_words_of_clearml_or_job_variables() -> None:
    assert launches.overrides({"container.image": "a", "gpus": 1}, {"image", "gpus"}) == {
        "image": "a",
        "gpus": 1,
    }
    with pytest.raises(Usage, match=r"no 'script\.branch'"):
        launches.overrides({"script.branch": "x"}, {"image"})
