"""What may be written to a task's run, and what is to be made of its history."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from clearflow.words import lifecycle, losing
from clearflow.words.admission import Admission, admission
from clearflow.words.lifecycle import Exit, Standing, Taken, Write
from clearflow.words.models import Run, State
from clearflow.words.notes import Note

NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
SILENCE = timedelta(seconds=30)
NAMES = {"SCHEDULED": "Queued", "PAUSED": "Draft"}


def state(kind: str, note: Note | str = "", *, ago: float = 0.0, name: str | None = None) -> State:
    at = NOW - timedelta(seconds=ago)
    place = at if kind in {"SCHEDULED", "PENDING"} else None
    return State(kind, name or NAMES.get(kind, kind.title()), str(note), at, place)


def run(now: State | None, *, id: str = "a1", policy: dict[str, object] | None = None) -> Run:
    return Run(id, "task", now, policy=policy or {}, expected=NOW)


OURS = Note("claimed by box:0", by="box:0", agent="box:0", claim="ours")
THEIRS = Note("claimed by tower:0", by="tower:0", agent="tower:0", claim="theirs")
HELD = Note("moving by bob", by="bob", claim="held")
QUEUED, TAKEN, RUNNING = state("SCHEDULED"), state("PENDING", OURS), state("RUNNING", OURS)
ABORT = state("CANCELLING", OURS.but("aborted by eve", by="eve"))
UI_ABORT = state("CANCELLING")
LOST = state("SCHEDULED", Note("lost: silent", attempt=2))


class TestAfterATake:
    def test_a_waiting_task(self) -> None:
        assert lifecycle.after_take([QUEUED, TAKEN], "ours") == (Taken.MINE, QUEUED)

    @pytest.mark.parametrize("kind", ["COMPLETED", "FAILED", "CRASHED"])
    def test_a_task_that_has_ended_is_put_back(self, kind: str) -> None:
        ended = state(kind, THEIRS.but("exit code"))
        history = [QUEUED, state("PENDING", THEIRS), ended, TAKEN]
        assert lifecycle.after_take(history, "ours") == (Taken.RESTORE, ended)

    def test_a_task_that_has_ended_is_put_back_even_when_it_is_aborted_meanwhile(self) -> None:
        ended = state("COMPLETED", THEIRS)
        assert lifecycle.after_take([ended, TAKEN, ABORT], "ours") == (Taken.RESTORE, ended)

    def test_a_task_that_was_lost_since_it_was_read_is_put_back(self) -> None:
        history = [QUEUED, state("PENDING", THEIRS), LOST, TAKEN]
        assert lifecycle.after_take(history, "ours") == (Taken.RESTORE, LOST)

    @pytest.mark.parametrize("abort", [ABORT, UI_ABORT])
    def test_a_task_that_is_aborted_at_once_is_still_to_be_ended_by_us(self, abort: State) -> None:
        assert lifecycle.after_take([QUEUED, TAKEN, abort], "ours")[0] is Taken.MINE

    def test_a_take_that_was_declared_lost(self) -> None:
        assert lifecycle.after_take([QUEUED, TAKEN, LOST], "ours")[0] is Taken.LOST

    def test_a_take_that_never_was(self) -> None:
        assert lifecycle.after_take([QUEUED], "ours") == (Taken.LOST, None)
        assert lifecycle.after_take([], "ours") == (Taken.LOST, None)

    def test_the_second_take_of_a_request_that_came_twice(self) -> None:
        assert lifecycle.after_take([QUEUED, TAKEN, LOST, TAKEN], "ours") == (Taken.RESTORE, LOST)


class TestStanding:
    @pytest.mark.parametrize(
        ("later", "where"),
        [
            ([], Standing.MINE),
            ([RUNNING], Standing.MINE),
            ([RUNNING, ABORT], Standing.ABORTED),
            ([RUNNING, UI_ABORT], Standing.ABORTED),
            ([ABORT, RUNNING], Standing.ABORTED),
            ([RUNNING, ABORT, state("CANCELLED", OURS)], Standing.ABORTED),
            ([RUNNING, state("COMPLETED", OURS)], Standing.ENDED),
            ([RUNNING, state("COMPLETED", OURS), QUEUED], Standing.ENDED),
            ([RUNNING, state("COMPLETED", "set by hand")], Standing.GONE),
            ([RUNNING, LOST], Standing.GONE),
            ([RUNNING, LOST, state("PENDING", THEIRS)], Standing.GONE),
            ([RUNNING, LOST, RUNNING], Standing.GONE),
            ([state("PAUSED")], Standing.GONE),
            # Prefect's own words, without a note.
            ([state("RUNNING")], Standing.MINE),
            ([RUNNING, state("PAUSED", name="Paused"), state("RUNNING")], Standing.MINE),
            # Between two tries of a flow.
            ([RUNNING, state("SCHEDULED", OURS, name="AwaitingRetry")], Standing.MINE),
            ([RUNNING, ABORT, state("SCHEDULED", OURS, name="AwaitingRetry")], Standing.ABORTED),
        ],
    )
    def test_a_claim(self, later: list[State], where: Standing) -> None:
        assert lifecycle.standing([QUEUED, TAKEN, *later], "ours")[0] is where

    def test_a_late_word_of_an_earlier_claim_changes_nothing(self) -> None:
        history = [QUEUED, TAKEN, LOST, state("PENDING", THEIRS), RUNNING]
        assert lifecycle.standing(history, "theirs")[0] is Standing.MINE
        assert lifecycle.standing(history, "ours")[0] is Standing.GONE

    def test_an_abort_of_an_earlier_life_is_over(self) -> None:
        abort = state("CANCELLING", THEIRS.but("aborted by eve"))
        ended = state("CANCELLED", THEIRS.but("aborted by eve"))
        history = [QUEUED, state("PENDING", THEIRS), abort, ended, QUEUED, TAKEN]
        assert lifecycle.standing(history, "ours")[0] is Standing.MINE

    def test_an_abort_that_was_stamped_just_before_the_take_counts(self) -> None:
        assert lifecycle.standing([QUEUED, ABORT, TAKEN], "ours")[0] is Standing.ABORTED

    def test_an_unknown_claim(self) -> None:
        assert lifecycle.standing([QUEUED], "ours") == (Standing.GONE, QUEUED)
        assert lifecycle.standing([], "ours") == (Standing.GONE, None)


class TestWritten:
    def test_what_was_written_over_the_claim(self) -> None:
        back = lifecycle.returned(OURS, NOW, "moved by bob")
        made = State(back.type, back.name, str(back.note), NOW, NOW)
        assert lifecycle.written([QUEUED, TAKEN, made], "ours", back) == made

    def test_what_was_there_before_or_elsewhere(self) -> None:
        back = lifecycle.returned(OURS, NOW, "moved by bob")
        made = State(back.type, back.name, str(back.note), NOW, NOW)
        elsewhere = replace(made, place=NOW - SILENCE)
        assert lifecycle.written([made, TAKEN, elsewhere], "ours", back) is None


def test_a_move_keeps_since_and_attempt() -> None:
    waiting = run(state("SCHEDULED", Note("queued by ada", since=NOW - SILENCE, attempt=2)))
    write = lifecycle.held(waiting, "bob", "moving", "held")
    back = lifecycle.returned(write.note, NOW, "moved by bob")
    assert (back.note.since, back.note.attempt, back.note.claim) == (NOW - SILENCE, 2, None)
    assert (back.place, back.over) == (NOW, "held")


def test_what_a_take_pushed_aside_is_put_back_as_it_was() -> None:
    ended = replace(state("COMPLETED", THEIRS.but("exit code 0")), data={"type": "unpersisted"})
    write = lifecycle.restored(ended, "ours")
    assert (write.type, str(write.note), write.data) == ("COMPLETED", ended.message, ended.data)
    assert write.force
    waiting = lifecycle.restored(LOST, "ours")
    assert (waiting.place, waiting.force) == (LOST.place, False)


class TestOutcome:
    @pytest.mark.parametrize(
        ("ended", "kind", "text"),
        [
            (Exit(code=0), "COMPLETED", "exit code 0"),
            (Exit(), "COMPLETED", "exit code 0"),
            (Exit(code=3), "FAILED", "exit code 3"),
            (Exit(signal="SIGSEGV"), "CRASHED", "killed by SIGSEGV"),
            (Exit(signal="SIGKILL", out_of_memory=True), "CRASHED", "killed: out of memory"),
            (Exit(code=0, error="no such file"), "FAILED", "no such file"),
            (Exit(signal="SIGTERM", aborted_by="eve"), "CANCELLED", "aborted by eve"),
        ],
    )
    def test_the_end_of_a_process(self, ended: Exit, kind: str, text: str) -> None:
        write = lifecycle.outcome(ended, OURS)
        assert write.type == kind
        assert write.note.text.startswith(text)
        assert write.note.claim == "ours"


class TestAbort:
    def test_a_waiting_task_is_cancelled(self) -> None:
        write = lifecycle.abort(run(QUEUED), "eve", NOW)
        assert write is not None
        assert (write.type, write.note.by) == ("CANCELLED", "eve")

    @pytest.mark.parametrize("now", [TAKEN, RUNNING, state("PENDING", HELD)])
    def test_the_holder_of_a_task_is_asked_to_stop(self, now: State) -> None:
        write = lifecycle.abort(run(now), "eve", NOW)
        assert write is not None
        assert (write.type, write.note.claim) == ("CANCELLING", now.note.claim)

    @pytest.mark.parametrize("now", [ABORT, state("COMPLETED"), None])
    def test_there_is_nothing_to_abort(self, now: State | None) -> None:
        assert lifecycle.abort(run(now), "eve", NOW) is None

    def test_its_end_says_by_whom(self) -> None:
        write = lifecycle.aborted("eve", ABORT.note)
        assert (write.type, write.note.text) == ("CANCELLED", "aborted by eve")


class TestIsLost:
    def lost(self, now: State, heard: float | None) -> bool:
        beats = {} if heard is None else {"box:0": NOW - timedelta(seconds=heard)}
        return losing.is_lost(run(now), beats, NOW, SILENCE)

    @pytest.mark.parametrize("kind", ["PENDING", "RUNNING", "CANCELLING"])
    def test_a_claim_of_a_silent_machine(self, kind: str) -> None:
        claim = state(kind, OURS, ago=60)
        assert self.lost(claim, heard=31)
        assert self.lost(claim, heard=None)
        assert not self.lost(claim, heard=29)

    def test_a_claim_so_young_that_its_machine_need_not_have_said_anything(self) -> None:
        assert not self.lost(state("PENDING", OURS, ago=29), heard=300)

    @pytest.mark.parametrize("kind", ["PENDING", "CANCELLING"])
    def test_a_hold_that_lasts_too_long(self, kind: str) -> None:
        assert self.lost(state(kind, HELD, ago=31), heard=0)
        assert not self.lost(state(kind, HELD, ago=29), heard=0)

    @pytest.mark.parametrize(
        "now", [state("RUNNING", ago=60), state("SCHEDULED", ago=60), state("COMPLETED", OURS)]
    )
    def test_what_is_none_of_our_business(self, now: State) -> None:
        assert not self.lost(now, heard=None)


class TestLost:
    def test_it_waits_for_its_next_attempt_in_front(self) -> None:
        write = losing.lost(run(RUNNING), "silent", 3, NOW)
        assert (write.type, write.place, write.note.attempt) == ("SCHEDULED", NOW, 2)
        assert (write.note.agent, write.note.claim) == (None, None)

    def test_its_last_attempt_is_its_end(self) -> None:
        now = state("RUNNING", replace(OURS, attempt=3))
        write = losing.lost(run(now), "silent", 3, NOW)
        assert (write.type, write.note.claim) == ("CRASHED", "ours")
        assert "attempt 3 of 3" in write.note.text

    def test_an_aborted_task_is_not_run_again(self) -> None:
        write = losing.lost(run(ABORT), "silent", 3, NOW)
        assert (write.type, write.note.by) == ("CANCELLED", "eve")

    def test_a_hold_goes_back_where_it_stood(self) -> None:
        now = state("PENDING", HELD, ago=60)
        write = losing.lost(run(now), "silent", 3, NOW)
        assert (write.type, write.place, write.note.attempt) == ("SCHEDULED", now.place, 1)

    def test_what_is_given_back_is_not_counted(self) -> None:
        write = losing.given_back(replace(OURS, attempt=2), "its agent stopped", NOW)
        assert (write.type, write.note.attempt, write.over) == ("SCHEDULED", 2, "ours")


class TestAdmission:
    def claim(self, id: str, kind: str = "PENDING", ago: float = 0.0, note: Note = OURS) -> Run:
        return run(state(kind, note, ago=ago), id=id)

    def test_no_limit(self) -> None:
        assert admission(None, "me", []) is Admission.KEEP

    def test_the_first_waits_for_those_behind_it(self) -> None:
        claims = [self.claim("me", ago=2), self.claim("other", ago=1)]
        assert admission(1, "me", claims) is Admission.WAIT
        assert admission(1, "other", claims) is Admission.YIELD

    def test_claims_of_the_same_moment_are_told_apart(self) -> None:
        claims = [self.claim("a"), self.claim("b")]
        assert {admission(1, "a", claims), admission(1, "b", claims)} == {
            Admission.WAIT,
            Admission.YIELD,
        }

    def test_who_has_started_stays(self) -> None:
        claims = [self.claim("me", ago=2), self.claim("other", "RUNNING", ago=1)]
        assert admission(1, "me", claims) is Admission.YIELD
        assert admission(2, "me", claims) is Admission.KEEP

    def test_who_only_moves_a_task_takes_no_slot(self) -> None:
        claims = [self.claim("me"), self.claim("other", ago=9, note=HELD)]
        assert admission(1, "me", claims) is Admission.KEEP

    def test_a_limit_of_nothing(self) -> None:
        assert admission(0, "me", [self.claim("me")]) is Admission.YIELD


class TestRetriesAfterALoss:
    def test_a_flow_without_retries_needs_nothing(self) -> None:
        assert losing.retries_after_loss({"retries": 0, "retry_type": None}) is None

    def test_a_lost_try_is_given_back_and_the_flow_offered_again(self) -> None:
        policy = {"retries": 2, "retry_type": "in_process", "retry_delay": 5}
        changed = {"retries": 3, "retry_type": None, "retry_delay": 5}
        assert losing.retries_after_loss(policy) == changed


def test_a_waiting_task_between_two_tries_is_not_in_the_line() -> None:
    between = run(state("SCHEDULED", OURS), policy={"retry_type": "in_process"})
    assert not lifecycle.is_waiting(between)
    assert lifecycle.is_waiting(run(QUEUED))


@pytest.mark.parametrize(
    ("name", "needs"), [("Scheduled", True), ("Late", True), ("Queued", False)]
)
def test_what_prefect_named_itself_is_renamed(name: str, needs: bool) -> None:
    assert lifecycle.needs_renaming(state("SCHEDULED", name=name)) is needs


def test_a_draft_is_forced_and_names_what_it_ends() -> None:
    assert lifecycle.drafted("bob", "held") == Write(
        "PAUSED", "Draft", Note("taken out of the queue by bob", by="bob"), force=True, over="held"
    )
