"""The life of a task: what may be written to its run, by whom, and what to look at afterwards.

Pure: (what the server says, what happened) -> the write to make. Agents, supervisors, sweepers,
the command line and the board all use these functions; nothing else decides on a state.

    draft -> queued -> starting -> running -> completed | failed | crashed | aborted
               ^---------- lost, while attempts remain ----'

What Prefect guarantees and what it does not (measured on 3.8.8):

* SCHEDULED -> PENDING named exactly `Pending` is accepted from one party only: a *take*.
* It also accepts COMPLETED and FAILED -> PENDING, and SCHEDULED over PENDING or RUNNING. So after
  a take one looks at the state before it, and SCHEDULED is only ever written over a state that
  the writer holds.
* There is no compare-and-set on a running task. Whoever wants to end somebody else's claim, and a
  holder that may have been declared lost, first creates the *settlement* of that claim: a record
  of the run whose key holds the claim's token, of which the server accepts one.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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

QUEUED, DRAFT, TAKEN = "Queued", "Draft", "Pending"


@dataclass(frozen=True, slots=True)
class Write:
    """A state to propose for a run. `place` None on SCHEDULED means the server's now: the back."""

    type: str
    name: str
    note: Note
    place: datetime | None = None
    force: bool = False
    data: Any = None


# -- waiting ---------------------------------------------------------------------------------


def queued(note: Note, place: datetime | None = None) -> Write:
    """A task into the line, at a place; without one, at the back."""
    return Write(SCHEDULED, QUEUED, note, place)


def drafted(by: str) -> Write:
    """A task out of the line, editable. Forced: Prefect lets only running flows pause."""
    return Write(PAUSED, DRAFT, Note(f"taken out of the queue by {by}", by=by), force=True)


def enqueued(by: str, now: datetime, place: datetime | None = None) -> Write:
    """A draft into the line. Forced: otherwise Prefect would count the run as resumed."""
    return Write(SCHEDULED, QUEUED, Note(f"queued by {by}", by=by, since=now), place, force=True)


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


class Taken(enum.Enum):
    """What a take that the server accepted really got."""

    MINE = "mine"
    RESTORE = "restore"  # it had ended: the final state has to be put back
    LOST = "lost"  # somebody else wrote after the take: leave it alone


def after_take(history: Sequence[State], token: str) -> tuple[Taken, State | None]:
    """Look back after a take that the server accepted; `history` is the run's, oldest first.

    Returns what was taken and the state before the take.
    """
    at = next((i for i in reversed(range(len(history))) if history[i].note.claim == token), None)
    if at is None:
        return Taken.LOST, None
    before = history[at - 1] if at else None
    if before is not None and before.final:
        return Taken.RESTORE, before
    later = history[at + 1 :]
    if any(s.note.claim != token for s in later):
        return Taken.LOST, before
    return Taken.MINE, before


def restored(before: State) -> Write:
    """The final state that a take has pushed aside, put back as it was."""
    return Write(before.type, before.name, before.note, force=True, data=before.data)


def returned(note: Note, place: datetime | None, text: str) -> Write:
    """A taken task back into the line: `place` is where it stood, or where it should stand."""
    return queued(note.but(text, agent=None, claim=None), place)


class Admission(enum.Enum):
    """Whether a claim fits under a concurrency limit."""

    KEEP = "keep"
    YIELD = "yield"
    WAIT = "wait"  # a later claim has not settled yet: look again


def admission(limit: int | None, mine: str, active: Iterable[Run]) -> Admission:
    """Decide on a claim, after it was written, by the runs that hold a slot of the limit.

    Prefect offers tasks under a limit but does not check it when they are taken, so two agents
    can pass it together. Claims are ranked by (time of the claim, id); those beyond the limit
    yield. Only an unsettled claim (state `Pending`) ever yields, and a claim within the limit
    waits until the ones behind it have yielded or started, in which case it yields itself: so
    whoever commits last sees everybody, and the limit holds exactly.
    """
    if limit is None:
        return Admission.KEEP
    runs = [r for r in active if r.state is not None and r.state.type in {PENDING, RUNNING}]
    others = [r for r in runs if r.id != mine]
    started = [r for r in others if r.state is not None and r.state.type == RUNNING]
    if len(started) >= limit:
        return Admission.YIELD
    if len(others) < limit:
        return Admission.KEEP
    me = next((r for r in runs if r.id == mine), None)
    if me is None:
        return Admission.YIELD
    ahead = [r for r in others if r not in started and _claim_rank(r) < _claim_rank(me)]
    if len(started) + len(ahead) >= limit:
        return Admission.YIELD
    return Admission.WAIT


def _claim_rank(run: Run) -> tuple[float, str]:
    at = run.state.at if run.state else None
    return (at.timestamp() if at else 0.0, run.id)


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

    What comes after the claim without a note was written by Prefect: a cancellation or suspension
    from its UI, or a flow that retries in process. The claim is gone when the task was queued
    again, claimed again, or ended by somebody else.
    """
    at = next((i for i in reversed(range(len(history))) if history[i].note.claim == token), None)
    if at is None:
        return Standing.GONE, history[-1] if history else None
    if history[at].final:
        return (
            (Standing.ABORTED, history[at])
            if history[at].type == CANCELLED
            else (Standing.ENDED, history[at])
        )
    later = history[at + 1 :]
    for state in later:
        requeued = state.type == SCHEDULED and state.name != "AwaitingRetry"
        if state.note.claim or requeued or (state.final and state.type != CANCELLED):
            return Standing.GONE, state
    if abort := abort_in(history):
        return Standing.ABORTED, abort
    if later and later[-1].type == PAUSED and later[-1].name == "Suspended":
        return Standing.SUSPENDED, later[-1]
    return Standing.MINE, None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a task's process ended. `memory` is what the kernel's out-of-memory killer took."""

    code: int | None = None
    signal: str | None = None
    out_of_memory: bool = False
    aborted_by: str | None = None
    error: str | None = None


def outcome(ended: Exit, note: Note) -> Write:
    """The final state for a process that did not report one itself."""
    if ended.aborted_by is not None:
        return aborted(ended.aborted_by, note)
    if ended.error is not None:
        return Write(FAILED, "Failed", note.but(ended.error))
    if ended.out_of_memory:
        return Write(CRASHED, "Crashed", note.but("killed: the machine ran out of memory"))
    if ended.signal is not None:
        return Write(CRASHED, "Crashed", note.but(f"killed by {ended.signal}"))
    if ended.code:
        return Write(FAILED, "Failed", note.but(f"exit code {ended.code}"))
    return Write(COMPLETED, "Completed", note.but("exit code 0"))


# -- aborting --------------------------------------------------------------------------------


def abort(run: Run, by: str, now: datetime) -> Write | None:
    """What an abort writes; None when the task has ended.

    A waiting task is cancelled at once; for one that an agent has, the supervisor is asked to
    stop it and writes the end. CANCELLING never replaces a final state: Prefect refuses that.
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
        elif state.type == SCHEDULED:
            found = None
    return found


# -- losing ----------------------------------------------------------------------------------


def is_lost(
    run: Run, heartbeats: Mapping[str, datetime | None], now: datetime, silence: timedelta
) -> bool:
    """Whether the holder of an active task has been silent for too long, by the server's clock.

    A task that a person holds for a moment (no agent) is lost when that moment has been too long.
    Runs that clearflow did not claim are none of its business.
    """
    if run.state is None or run.state.note.claim is None:
        return False
    if run.state.type not in {PENDING, RUNNING, CANCELLING} and not run.retrying_in_process:
        return False
    claimed_at = run.state.at
    if claimed_at is not None and now - claimed_at < silence:
        return False
    agent = run.note.agent
    if agent is None:
        return run.state.type == PENDING
    heard = heartbeats.get(agent)
    return heard is None or now - heard >= silence


def lost(run: Run, why: str, max_attempts: int, place: datetime | None) -> Write:
    """A claim that ended without an outcome: back to the front, or the end of the last attempt.

    `place` is the front of the queue; for a task that was only held (no agent) it is the place
    where it stood. The caller holds the settlement of the claim.
    """
    assert run.state is not None
    note = run.note
    if run.state.type == CANCELLING:
        return aborted(note.by or "unknown", note)
    if note.agent is None:
        return returned(note, run.state.place or place, "put back: its mover went away")
    if note.attempt >= max_attempts:
        text = f"lost: {why} (attempt {note.attempt} of {max_attempts})"
        return Write(CRASHED, "Crashed", note.but(text))
    text = f"lost: {why}; waiting for attempt {note.attempt + 1} of {max_attempts}"
    return queued(note.but(text, attempt=note.attempt + 1, agent=None, claim=None), place)


def given_back(note: Note, why: str, place: datetime | None) -> Write:
    """An attempt that ended through no fault of the task (its agent stops): not counted."""
    return queued(note.but(f"given back: {why}", agent=None, claim=None), place)


def settlement(token: str) -> str:
    """The prefix of the keys of the records that decide who may end a claim."""
    return f"clearflow-settle-{token}-"


def retries_after_loss(policy: Mapping[str, object]) -> dict[str, object] | None:
    """The retry policy a lost flow needs to be offered to agents again; None when it is fine.

    Between in-process retries Prefect marks a run so that no worker is offered it, and counts the
    lost start as one of the retries.
    """
    retries = policy.get("retries")
    if policy.get("retry_type") is None and not retries:
        return None
    changed = dict(policy)
    changed["retry_type"] = None
    if isinstance(retries, int) and retries:
        changed["retries"] = retries + 1
    return changed
