"""The life of a task: what may be written to its run, by whom, and what to look at afterwards.

Pure: (what the server says, what happened) -> the write to make. Agents, supervisors, sweepers,
the command line and the board all use these functions; nothing else decides on a state.

    draft -> queued -> starting -> running -> completed | failed | crashed | aborted
               ^---------- lost, while attempts remain ----'

What Prefect guarantees and what it does not (measured on 3.8.8):

* SCHEDULED -> PENDING named exactly `Pending` is accepted from one party only: a *take*.
* It also accepts COMPLETED, FAILED and CRASHED -> PENDING, and SCHEDULED over PENDING, RUNNING and
  CANCELLED. So after a take one looks at the state before it, and SCHEDULED is only ever written
  over a state that the writer holds.
* CANCELLING is left for CANCELLED alone, unless a write is forced; it replaces no final state; and
  a SCHEDULED run goes straight to CANCELLED, without the note. So an abort and the start of user
  code cannot both be accepted.
* There is no compare-and-set on a running task. Whoever wants to end somebody else's claim, and a
  holder that may have been declared lost, first creates the *settlement* of that claim: a record
  of the run whose key holds the claim's token, of which the server accepts one.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from clearflow.words.models import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CRASHED,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    Run,
    State,
)
from clearflow.words.notes import Note

_ENDS = {
    "completed": (COMPLETED, "Completed"),
    "failed": (FAILED, "Failed"),
    "aborted": (CANCELLED, "Cancelled"),
}
QUEUED, DRAFT, TAKEN, SUSPENDED = "Queued", "Draft", "Pending", "Suspended"


@dataclass(frozen=True, slots=True)
class Write:
    """A state to propose for a run. `place` None on SCHEDULED means the server's now: the back.

    `over` is the token of the claim that the write ends: without that claim it is not to be made.
    """

    type: str
    name: str
    note: Note
    place: datetime | None = None
    force: bool = False
    data: Any = None
    over: str | None = None


# -- waiting ---------------------------------------------------------------------------------


def queued(note: Note, place: datetime | None = None) -> Write:
    """A task into the line, at a place; without one, at the back."""
    return Write(SCHEDULED, QUEUED, note, place)


def drafted(by: str, over: str | None = None) -> Write:
    """A held task out of the line, editable. Forced: Prefect lets only running flows pause."""
    note = Note(f"taken out of the queue by {by}", by=by)
    return Write(PAUSED, DRAFT, note, force=True, over=over)


def made(by: str) -> Write:
    """A new task that is in no line yet."""
    return Write(PAUSED, DRAFT, Note(f"made by {by}", by=by))


def marked(run: Run, status: str, by: str, why: str) -> Write | None:
    """The end of a task as somebody declares it; None while it waits or somebody has it.

    `status` is completed, failed or aborted.
    """
    if not is_draft(run) and not (run.state and run.state.final):
        return None
    kind, name = _ENDS[status]
    text = f"marked as {status} by {by}" + (f": {why}" if why else "")
    return Write(kind, name, run.note.but(text, by=by), force=True)


def sent(by: str, now: datetime) -> Write:
    """A task that ran somewhere by itself into the line, to be run by an agent."""
    return Write(SCHEDULED, QUEUED, Note(f"sent by {by}", by=by, since=now))


def enqueued(by: str, now: datetime, place: datetime | None = None) -> Write:
    """A draft into the line. Forced: otherwise Prefect would count the run as resumed."""
    return Write(SCHEDULED, QUEUED, Note(f"queued by {by}", by=by, since=now), place, force=True)


def is_draft(run: Run) -> bool:
    """Whether nobody has queued a task yet, or somebody has taken it out of its queue."""
    return run.state is None or (run.state.type == PAUSED and run.state.name == DRAFT)


def is_waiting(run: Run) -> bool:
    """In a line: SCHEDULED, and not between two tries of a flow whose process lives."""
    return run.state is not None and run.state.type == SCHEDULED and not run.retrying_in_process


def needs_renaming(state: State) -> bool:
    """A waiting run that Prefect named itself; left alone, its late-run service floods SQLite."""
    return state.type == SCHEDULED and state.name in {"Scheduled", "Late"}


def since(run: Run) -> datetime | None:
    """When the task was enqueued: kept by notes, else when it was due for the first time."""
    return run.note.since or run.expected or run.created


# -- taking ----------------------------------------------------------------------------------


def claim_token() -> str:
    return secrets.token_hex(6)


def claimed(run: Run, agent: str, token: str) -> Write:
    """An agent takes a waiting task to run it."""
    attempt = run.note.attempt
    text = f"claimed by {agent}" + (f", attempt {attempt}" if attempt > 1 else "")
    note = Note(text, by=agent, since=since(run), attempt=attempt, agent=agent, claim=token)
    return Write(PENDING, TAKEN, note)


def held(run: Run, by: str, doing: str, token: str) -> Write:
    """Somebody takes a waiting task for a moment, to move it or take it out of the line."""
    note = Note(f"{doing} by {by}", by=by, since=since(run), attempt=run.note.attempt, claim=token)
    return Write(PENDING, TAKEN, note)


def is_hold(state: State) -> bool:
    """Whether somebody holds a task for a moment, to move it, with no agent and nothing to run."""
    return state.type == PENDING and state.note.claim is not None and state.note.agent is None


class Taken(enum.Enum):
    """What a take that the server accepted really got."""

    MINE = "mine"
    RESTORE = "restore"  # not what was meant to be taken: the state before has to be put back
    LOST = "lost"  # somebody else wrote after the take: leave it alone


def after_take(history: Sequence[State], token: str) -> tuple[Taken, State | None]:
    """Look back after a take that the server accepted; `history` is the run's, oldest first.

    Returns what was taken and the state before the take. A task may have run since it was read:
    to its end, or until it was lost and queued for a further attempt, which the note of this take
    does not count.
    """
    taken = [i for i, s in enumerate(history) if s.note.claim == token and s.type == PENDING]
    if not taken:
        return Taken.LOST, None
    at = taken[-1]
    before = history[at - 1] if at else None
    if standing(history[at:], token)[0] not in {Standing.MINE, Standing.ABORTED}:
        return Taken.LOST, before
    if before is not None and (
        before.final
        or (before.type == SCHEDULED and before.note.attempt != history[at].note.attempt)
    ):
        return Taken.RESTORE, before
    return Taken.MINE, before


def restored(before: State, over: str | None = None) -> Write:
    """The state that a take has pushed aside, put back as it was.

    An ended task has not been aborted by who tried to meanwhile, so its end is forced.
    """
    return Write(
        before.type,
        before.name,
        before.note,
        place=before.place if before.type == SCHEDULED else None,
        force=before.final,
        data=before.data,
        over=over,
    )


def returned(note: Note, place: datetime | None, text: str) -> Write:
    """A taken task back into the line: `place` is where it stood, or where it should stand."""
    back = note.but(text, agent=None, claim=None)
    return Write(SCHEDULED, QUEUED, back, place, over=note.claim)


# -- running ---------------------------------------------------------------------------------


def running(note: Note) -> Write:
    """User code is about to start; the note keeps the claim."""
    text = f"running on {note.agent}" + (f", attempt {note.attempt}" if note.attempt > 1 else "")
    return Write(RUNNING, "Running", note.but(text))


class Standing(enum.Enum):
    """Where the holder of a claim stands, by the history of its run."""

    MINE = "mine"
    ABORTED = "aborted"
    SUSPENDED = "suspended"  # from outside: the flow has to end at its next step
    ENDED = "ended"  # this claim's own outcome is recorded
    GONE = "gone"  # settled by somebody else: stop, and write nothing


def standing(history: Sequence[State], token: str) -> tuple[Standing, State | None]:
    """Whether a claim still holds its task; with the state that says otherwise.

    A claim lasts from its take until the task has ended, waits again, or is taken again. States
    in between belong to it whatever their note: Prefect writes some itself, and a late word of an
    earlier claim changes nothing.
    """
    start = next((i for i, s in enumerate(history) if s.note.claim == token), None)
    if start is None:
        return Standing.GONE, history[-1] if history else None
    for state in history[start + 1 :]:
        if state.type == CANCELLED:
            return Standing.ABORTED, state
        if state.final:
            return (Standing.ENDED if state.note.claim == token else Standing.GONE), state
        if state.note.claim != token and _ends_claim(state):
            return Standing.GONE, state
    if abort := abort_in(history):
        return Standing.ABORTED, abort
    if (last := history[-1]).type == PAUSED and last.name == SUSPENDED:
        return Standing.SUSPENDED, last
    return Standing.MINE, None


def _ends_claim(state: State) -> bool:
    """Whether a state that is not the claim's own says that the task is nobody's, or another's."""
    return (
        state.type == SCHEDULED
        or (state.type == PENDING and state.note.claim is not None)
        or (state.type == PAUSED and state.name == DRAFT)
    )


def out_of_order(history: Sequence[State]) -> bool:
    """Whether a task was queued straight after a request to abort it, as no server accepts."""
    return any(
        before.type == CANCELLING and after.type == SCHEDULED for before, after in pairwise(history)
    )


def written(history: Sequence[State], token: str | None, write: Write) -> State | None:
    """The state that a write over this claim has made, when its answer was not heard."""
    start = next((i for i, s in enumerate(history) if s.note.claim == token), len(history))
    for state in history[start + 1 :]:
        same = (state.type, state.name, state.message) == (write.type, write.name, str(write.note))
        if same and write.place in {None, state.place}:
            return state
    return None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a task's process ended. `memory` is what the kernel's out-of-memory killer took."""

    code: int | None = None
    signal: str | None = None
    out_of_memory: bool = False
    aborted_by: str | None = None
    error: str | None = None
    vanished: bool = False  # nobody saw how

    @classmethod
    def declared(cls, status: str, reason: str, by: str) -> Exit:
        """As the program itself says: completed, failed or aborted."""
        if status == "aborted":
            return cls(aborted_by=by)
        return cls(error=reason or "it says so itself") if status == "failed" else cls(code=0)


def outcome(ended: Exit, note: Note) -> Write:
    """The final state for a process that did not report one itself."""
    if ended.aborted_by is not None:
        return aborted(ended.aborted_by, note)
    if ended.error is not None:
        return Write(FAILED, "Failed", note.but(ended.error))
    if ended.vanished:
        return Write(CRASHED, "Crashed", note.but("its process went away without a word"))
    if ended.out_of_memory:
        return Write(CRASHED, "Crashed", note.but("killed: out of memory"))
    if ended.signal is not None:
        return Write(CRASHED, "Crashed", note.but(f"killed by {ended.signal}"))
    if ended.code:
        return Write(FAILED, "Failed", note.but(f"exit code {ended.code}"))
    return Write(COMPLETED, "Completed", note.but("exit code 0"))


# -- aborting --------------------------------------------------------------------------------


def abort(run: Run, by: str, now: datetime) -> Write | None:
    """What an abort writes; None when the task has ended.

    A waiting task is cancelled at once, by somebody who holds it; for one that is held, its
    holder is asked to stop and writes the end. CANCELLING never replaces a final state: Prefect
    refuses that.
    """
    if run.state is None or run.state.final:
        return None
    text = f"aborted by {by} at {now.isoformat(timespec='seconds')}"
    note = run.note.but(text, by=by)
    if run.state.type in {RUNNING, PENDING} or run.retrying_in_process:
        return Write(CANCELLING, "Cancelling", note)
    if run.state.type == CANCELLING:
        return None
    return Write(CANCELLED, "Cancelled", note)


def aborted(by: str, note: Note) -> Write:
    """The end of an aborted task, written by whoever stopped it."""
    text = note.text if note.text.startswith("aborted by") else f"aborted by {by}"
    return Write(CANCELLED, "Cancelled", note.but(text, by=by))


def abort_in(history: Iterable[State]) -> State | None:
    """The last request to abort in a run's history, if there is one since it was last queued."""
    found: State | None = None
    for state in history:
        if state.type in {CANCELLING, CANCELLED}:
            found = state
        elif state.type == SCHEDULED and state.note.claim is None:
            found = None
    return found
