"""Tasks whose holder is gone: when that is so, and what is written then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from clearflow.words.lifecycle import QUEUED, Write, aborted, returned
from clearflow.words.models import CANCELLING, CRASHED, PENDING, RUNNING, SCHEDULED, Run
from clearflow.words.notes import Note


def is_lost(
    run: Run, heartbeats: Mapping[str, datetime | None], now: datetime, silence: timedelta
) -> bool:
    """Whether the holder of an active task has been silent for too long, by the server's clock.

    A task that somebody holds for a moment (no agent) is lost when that moment has been too long.
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
        return run.state.type in {PENDING, CANCELLING}
    heard = heartbeats.get(agent)
    return heard is None or now - heard >= silence


def lost(run: Run, why: str, max_attempts: int, place: datetime | None) -> Write:
    """A claim that ended without an outcome: back to the front, or the end of the last attempt.

    `place` is the front of the queue; a task that was only held (no agent) goes to where it
    stood. The caller holds the settlement of the claim.
    """
    assert run.state is not None
    note = run.note
    if run.state.type == CANCELLING:
        return replace(aborted(note.by or "unknown", note), over=note.claim)
    if note.agent is None:
        return returned(note, run.state.place or place, "put back: its mover went away")
    if note.attempt >= max_attempts:
        text = f"lost: {why} (attempt {note.attempt} of {max_attempts})"
        return Write(CRASHED, "Crashed", note.but(text), over=note.claim)
    text = f"lost: {why}; waiting for attempt {note.attempt + 1} of {max_attempts}"
    back = note.but(text, attempt=note.attempt + 1, agent=None, claim=None)
    return Write(SCHEDULED, QUEUED, back, place, over=note.claim)


def given_back(note: Note, why: str, place: datetime | None) -> Write:
    """An attempt that ended through no fault of the task (its agent stops): not counted."""
    return returned(note, place, f"given back: {why}")


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


def tells_of_loss(note: Note) -> bool:
    """Whether this is the note of a task that was lost, and waits again or has ended so."""
    return note.text.startswith("lost:")
