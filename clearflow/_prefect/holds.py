"""Holds: a waiting task taken for a moment, to move it or to take it out of the line.

A hold is a claim without an agent. It lasts some milliseconds; if whoever has it dies, the
sweepers put the task back where it stood.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from clearflow._prefect import claims, runs, settling
from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound, Refused, Unreachable
from clearflow.settings import settings
from clearflow.words import lifecycle
from clearflow.words.lifecycle import Write
from clearflow.words.models import CANCELLED, CANCELLING, PAUSED, SCHEDULED, Run, State
from clearflow.words.notes import Note

T = TypeVar("T")

# How long to wait for somebody else who moves the same task at this moment.
PATIENCE = 20.0

# Between two looks at a task that somebody else moves: many who wait must not keep the one busy
# for whom they wait.
_LOOK, _SELDOM = 0.03, 0.5


def _since_boot() -> float:
    """Seconds that also pass while the machine sleeps, where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass
class Held:
    """A task in this process's hand, with the place where it stood.

    It leaves the hand by `put`, `draft` or `drop`; `holding` puts back one that has not.
    """

    api: Api
    run: Run
    note: Note
    place: datetime | None
    taken: float
    gone: bool = False

    async def put(self, place: datetime | None, text: str) -> None:
        """Back into its line, at a place (None: the back)."""
        await self._end(lifecycle.returned(self.note, place, text))

    async def draft(self, by: str) -> None:
        """Out of the line."""
        await self._end(lifecycle.drafted(by, over=self.note.claim))

    async def drop(self) -> None:
        """Delete the run: the task lives on in another one, so it is never put back."""
        self.gone = True
        await runs.delete(self.api, self.run.id)

    @property
    def fresh(self) -> bool:
        """Whether it is too early for anybody to have put the task back."""
        return _since_boot() - self.taken < settings().silence / 6

    async def _end(self, write: Write) -> None:
        try:
            state = await unbroken(self._write(write))
        except (Unreachable, asyncio.CancelledError):
            # It may have been accepted, and a second write could undo what came after it.
            self.gone = True
            raise
        self.gone = True
        if state is None:
            raise Conflict(f"{label(self.run)} was taken over or deleted meanwhile")
        if state.type == CANCELLED:
            raise Refused(f"{label(self.run)} has just been aborted")

    async def _write(self, write: Write) -> State | None:
        # An abort since the hold makes Prefect refuse this, as long as it is not forced.
        if self.fresh and not write.force:
            within = timedelta(seconds=settings().silence / 6)
            state = await settling.write_once(self.api, self.run.id, write, within)
            if state is not None:
                return state
        return await claims.put_back(self.api, self.run.id, write)


@asynccontextmanager
async def holding(api: Api, run: Run, by: str, doing: str) -> AsyncIterator[Held]:
    """Take a waiting task. What is still in the hand at the end goes back where it stood.

    Waits for somebody else who moves it at this moment. Raises Refused when the task does not
    wait, with what it does instead; NotFound when it has been deleted. With the server away the
    task stays in the hand, and sweepers put it back.
    """
    held = await _take(api, run, by, doing)
    try:
        yield held
    finally:
        if not held.gone:
            with suppress(Unreachable, Refused):
                await held.put(held.place, "put back")


async def _take(api: Api, run: Run, by: str, doing: str) -> Held:
    deadline = time.monotonic() + PATIENCE
    while True:
        if _in_line(run) and (held := await _try(api, run, by, doing)) is not None:
            return held
        run = await settled(api, await _again(api, run))
        if reason := not_waiting(run):
            raise Refused(reason[0], hint=reason[1])
        if time.monotonic() > deadline:
            raise Refused(f"{label(run)} cannot be taken: somebody else keeps moving it")


async def settled(api: Api, run: Run) -> Run:
    """The run after nobody moves it any more. Raises Refused when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    pause = _LOOK
    while run.state is not None and lifecycle.is_hold(run.state):
        if time.monotonic() > deadline:
            raise Refused(f"somebody else is moving {label(run)} ({run.note.by or 'unknown'})")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _SELDOM)
        run = await _again(api, run)
    return run


def _in_line(run: Run) -> bool:
    return run.state is not None and run.state.type == SCHEDULED


async def _again(api: Api, run: Run) -> Run:
    try:
        return await runs.read(api, run.id)
    except NotFound:
        raise NotFound(
            f"{label(run)} has been deleted, or has just gone to another queue",
            hint="whoever deletes a deployment deletes the tasks that wait for it",
        ) from None


async def _try(api: Api, run: Run, by: str, doing: str) -> Held | None:
    held: list[Held] = []

    async def take() -> None:
        write = lifecycle.held(run, by, doing, lifecycle.claim_token())
        # The answer may be late: what others may do with a hold is counted from its beginning.
        since = _since_boot()
        taken, place = await claims.seize(api, run, write)
        if taken:
            held.append(Held(api, run, write.note, place, since))

    try:
        await unbroken(take())
    except asyncio.CancelledError:
        for each in held:
            await each.put(each.place, "put back")
        raise
    return held[0] if held else None


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Await something that must not stop halfway: when cancelled, it comes to its end first.

    A request whose answer nobody awaits any more is carried out all the same, some time later.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


def not_waiting(run: Run) -> tuple[str, str | None] | None:
    """Why a task cannot be moved or taken out of its line, with a hint; None when it waits."""
    task, state = label(run), run.state
    if state is None or state.type == PAUSED:
        return f"{task} is a draft: it does not wait", "`clearflow task enqueue` queues it"
    if state.final:
        return f"{task} has ended: {run.status(state.at or _LONG_AGO)}", None
    if state.type == CANCELLING:
        return f"{task} is being aborted", None
    if run.retrying_in_process:
        return f"{task} is between two tries on its agent", None
    if state.name == "AwaitingConcurrencySlot":
        return f"{task} is held back by the concurrency limit of its deployment", None
    if state.type == SCHEDULED:
        return None
    return f"{task} has just been started by {run.note.agent or 'an agent'}", None


_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def label(run: Run) -> str:
    """How messages name a task: the head of its id, and its name."""
    return f"task {run.task_id[:8]} ({run.name})"


async def exclusively(api: Api, run: Run, by: str) -> None:
    """Become the only one who may take a task out of the state it is in now, for a draft or an
    ended task: these cannot be held. Raises Conflict when somebody else is at it.
    """
    token = lifecycle.claim_token()
    state = run.state.id if run.state else "none"
    silence = timedelta(seconds=settings().silence)
    try:
        mine = await claims.settle(api, run.id, state, f"{by} {token}", silence)
    except NotFound:
        mine = False
    if mine:
        fresh = await runs.read(api, run.id)
        mine = fresh.state is not None and run.state is not None and fresh.state.id == run.state.id
    if not mine:
        raise Conflict(f"somebody else has just queued or moved {label(run)}")
