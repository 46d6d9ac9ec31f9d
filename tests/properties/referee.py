"""What must hold at any moment, and at the end, whoever is killed or cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from clearflow.words.lifecycle import Standing, standing
from clearflow.words.models import CANCELLED, CANCELLING, PENDING, RUNNING, SCHEDULED, State
from tests.properties.server import Server


@dataclass
class Execution:
    """User code of a task, by one claim."""

    task: str
    silent: Callable[[], bool]
    running: bool = True


class Referee:
    """Watches over the states the server has, and over user code."""

    def __init__(self, server: Server, limit: int | None, max_attempts: int) -> None:
        self._server, self._limit, self._max_attempts = server, limit, max_attempts
        self._executions: dict[str, Execution] = {}
        self._seen: dict[str, int] = {}
        self._written = 0
        self._may_be_lost: dict[str, Callable[[], bool]] = {}

    def claimed(self, token: str, may_be_lost: Callable[[], bool]) -> None:
        """An agent is about to take a task; whether its claim may be declared lost, at any time."""
        self._may_be_lost[token] = may_be_lost

    def user_code_started(self, task: str, token: str, silent: Callable[[], bool]) -> None:
        """`silent` says whether its machine has been unheard of for so long that it is lost."""
        for other in self._executions.values():
            if other.task == task and other.running:
                assert other.silent(), "two run the task at once, and the first was heard of"
        states = self._server.states()[task]
        taken = next(i for i, s in enumerate(states) if s.note.claim == token)
        started = next(
            i for i, s in enumerate(states) if s.type == RUNNING and s.note.claim == token
        )
        aborts = [s for s in states[taken:started] if s.type in {CANCELLING, CANCELLED}]
        assert not aborts, "the task was aborted before it started, and started"
        self._executions[token] = Execution(task, silent)

    def user_code_stopped(self, token: str) -> None:
        self._executions[token].running = False

    def look(self) -> None:
        """After every step."""
        written = self._server.written()
        if written == self._written:
            return
        self._written = written
        states = self._server.states()
        started = [run for run, s in states.items() if s[-1].type == RUNNING]
        assert self._limit is None or len(started) <= self._limit, "more started than the limit"
        soon = self._server.clock.peek() + timedelta(seconds=2)
        for run, history in states.items():
            if self._seen.get(run) == len(history):
                continue
            self._seen[run] = len(history)
            last = history[-1]
            if last.type == SCHEDULED and last.note.text != "planned for later":
                assert last.place is None or last.place <= soon, "a waiting task is hidden"
            self._ends_stand(history)
            self._claims_stand(history)
            self._attempts(history)

    def _ends_stand(self, history: Sequence[State]) -> None:
        """A recorded end is replaced by nothing but being queued again."""
        end: State | None = None
        ended: set[str] = set()
        for state in history:
            if end is None:
                if state.final:
                    end = state
                    claim = state.note.claim
                    assert claim is None or claim not in ended, "a claim has ended twice"
                    ended |= {claim} if claim else set()
            elif state.type == SCHEDULED:
                assert state.note.text.startswith("queued by"), f"{end.name} was queued again"
                end = None
            elif state.final:
                same = (state.type, state.message) == (end.type, end.message)
                assert same, f"{end.name} was replaced by {state.name}"
            else:
                # Taken by mistake, by somebody who had read it before, and put back later on.
                assert state.type in {PENDING, CANCELLING}, f"{end.name} was followed by a start"

    def _claims_stand(self, history: Sequence[State]) -> None:
        """A claim is ended by its holder, or because its holder is gone; then it says no more."""
        if len(history) < 2:
            return
        before, last = history[-2:]
        if before.final:
            return
        token = before.note.claim
        waited = [s.message for s in history[:-1] if s.type == SCHEDULED]
        put_back = before.type == PENDING and last.message in waited
        retried = last.note.claim == token
        if last.type == SCHEDULED and token is not None and not put_back and not retried:
            text = last.note.text
            if text.startswith("lost:"):
                lost = token not in self._may_be_lost or self._may_be_lost[token]()
                assert lost, "a claim of a living was declared lost"
            elif before.note.agent is not None:
                own = text.startswith(("given back", "waits for a slot"))
                assert own, f"{before.note.text}, and then {text}"
        speaker = last.note.claim
        if speaker is not None and speaker in {s.note.claim for s in history[:-1]}:
            stands = {Standing.MINE, Standing.ABORTED}
            again = last.final and last.message in {s.message for s in history[:-1]}
            where, _ = standing(history[:-1], speaker)
            assert again or where in stands, f"{last.note.text}, said too late"

    def _attempts(self, history: Sequence[State]) -> None:
        attempt, waited = 1, ""
        for state in history:
            text = state.note.text
            if text.startswith("queued by"):
                attempt = 1
            elif text.startswith("lost:") and state.type == SCHEDULED and state.message != waited:
                attempt += 1
            waited = state.message if state.type == SCHEDULED else waited
            if state.type == RUNNING or state.name == "Queued":
                assert state.note.attempt == attempt, f"attempt {attempt} is counted wrongly"
            assert attempt <= self._max_attempts, "attempted too often"

    def all_is_over(self, line: Sequence[str]) -> None:
        """At the end: no task is lost, and none is left."""
        assert not line, "a task still waits"
        for history in self._server.states().values():
            last = history[-1]
            assert last.final or last.name == "Draft", f"a task is left {last.name}: {last.message}"
        assert not any(e.running for e in self._executions.values())
