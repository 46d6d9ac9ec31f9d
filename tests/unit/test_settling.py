"""What is made of states whose order the server's times tell wrongly."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clearflow._prefect import runs, settling
from clearflow._prefect.http import Api
from clearflow.words import lifecycle
from clearflow.words.lifecycle import Standing
from clearflow.words.models import Run, State
from clearflow.words.notes import Note

NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
FIRST = Note("claimed by box:0", agent="box:0", claim="first")
SECOND = Note("claimed by box:1", agent="box:1", claim="second", attempt=2)


def state(number: int, kind: str, note: Note) -> State:
    return State(kind, kind.title(), str(note), NOW + timedelta(seconds=number), id=str(number))


async def test_an_abort_that_was_slower_than_the_loss_and_the_next_take_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is stamped before the task is lost, and reaches the run when the next attempt has it."""
    abort = state(2, "CANCELLING", FIRST.but("aborted by eve", by="eve"))
    told = [
        state(0, "PENDING", FIRST),
        state(1, "RUNNING", FIRST),
        abort,
        state(3, "SCHEDULED", Note("lost: silent", attempt=2)),
        state(4, "PENDING", SECOND),
    ]
    asked = []

    async def history(*_: Any) -> list[State]:
        return told

    async def read(*_: Any) -> Run:
        asked.append(1)
        return Run("a1", "task", current)

    monkeypatch.setattr(runs, "history", history)
    monkeypatch.setattr(runs, "read", read)
    api = Api.__new__(Api)

    current = abort
    found = await settling.history(api, "a1", "second")
    assert found[-1] is abort
    assert lifecycle.standing(found, "second") == (Standing.ABORTED, abort)

    # In any other case nobody asks for the run.
    asked.clear()
    del told[2]
    assert await settling.history(api, "a1", "second") == told
    assert not asked
