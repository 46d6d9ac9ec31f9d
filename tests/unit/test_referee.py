"""The referee of the chaos tests finds what must not be, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path

from clearflow.words.models import COMPLETED, CRASHED, PENDING, RUNNING, SCHEDULED, State
from clearflow.words.notes import Note
from tests.chaos import referee
from tests.chaos.referee import Stretch


def state(type: str, claim: str | None = None, text: str = "", at: float = 100.0) -> State:
    moment = datetime.fromtimestamp(at, UTC)
    return State(type, type.title(), str(Note(text or type, claim=claim)), at=moment)


def stretch(claim: str, first: float, last: float, done: bool = True, pid: int = 1) -> Stretch:
    return Stretch("t", claim, pid, first, last, 10, done)


WELL = [state(SCHEDULED), state(PENDING, "a"), state(RUNNING, "a"), state(COMPLETED, "a")]


def kinds(stretches: list[Stretch], states: list[State]) -> list[str]:
    return [v.kind for v in referee.judge(["t"], stretches, {"t": states})]


def test_a_task_that_ran_once_to_its_end_is_fine() -> None:
    assert kinds([stretch("a", 10, 12)], WELL) == []


def test_a_further_attempt_after_a_broken_one_is_fine() -> None:
    states = [*WELL[:3], state(SCHEDULED), state(PENDING, "b"), state(COMPLETED, "b")]
    assert kinds([stretch("a", 10, 12, done=False), stretch("b", 12.05, 14)], states) == []


def test_two_processes_at_the_same_time_are_an_overlap() -> None:
    assert kinds([stretch("a", 10, 12, False), stretch("a", 11, 13, pid=2)], WELL) == ["overlap"]


def test_a_process_that_was_frozen_while_another_ran_is_an_overlap() -> None:
    assert kinds([stretch("a", 13, 14), stretch("b", 10, 20, False)], WELL) == ["overlap"]


def test_a_moment_is_no_overlap() -> None:
    assert kinds([stretch("b", 10, 12.05, False), stretch("a", 12, 13)], WELL) == []


def test_three_processes_are_told_pair_by_pair() -> None:
    found = kinds([stretch("a", 10, 12), stretch("b", 10, 12), stretch("c", 11, 13)], WELL)
    assert found == ["overlap"] * 3


def test_a_task_that_has_not_ended_is_lost() -> None:
    assert kinds([stretch("a", 10, 12)], WELL[:3]) == ["loss"]


def test_a_task_that_the_server_does_not_know_is_lost() -> None:
    assert kinds([], []) == ["loss"]


def test_an_end_without_the_last_beat_of_its_claim_is_a_loss() -> None:
    assert kinds([stretch("a", 10, 12, done=False), stretch("b", 1, 2)], WELL) == ["loss"]


def test_a_crash_needs_no_last_beat() -> None:
    states = [*WELL[:3], state(CRASHED, "a", "killed by SIGKILL")]
    assert kinds([stretch("a", 10, 12, done=False)], states) == []


def test_two_different_ends_are_one_too_many() -> None:
    assert kinds([stretch("a", 10, 12)], [*WELL, state(CRASHED, "b")]) == ["double end"]


def test_an_end_that_a_take_pushed_aside_and_that_was_put_back_is_one_end() -> None:
    states = [*WELL, state(PENDING, "b"), WELL[-1]]
    assert kinds([stretch("a", 10, 12)], states) == []


def test_beats_after_the_end_are_told() -> None:
    found = kinds([stretch("a", 10, 12), stretch("b", 101, 102, False)], WELL)
    assert found == ["beat after the end"]


def test_beat_files_are_read_but_for_a_line_that_was_broken_off(tmp_path: Path) -> None:
    (tmp_path / referee.file_name("t", "a", 7)).write_text("start 1.5\nbeat 1.52\nbeat 1.5")
    (tmp_path / referee.file_name("t", "b", 8)).write_text("start 2.0\nend 2.5\n")
    (tmp_path / referee.file_name("t", "c", 9)).write_text("sta")

    found = referee.read(tmp_path)

    assert found == [
        Stretch("t", "a", 7, 1.5, 1.52, 2, False),
        Stretch("t", "b", 8, 2.0, 2.5, 2, True),
    ]
