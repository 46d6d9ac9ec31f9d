"""One task in words: what it does, where it stands, why it waits, and what came before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from clearflow._prefect import deployments, pools, runs
from clearflow._prefect.http import Api
from clearflow._prefect.situation import reason, situate
from clearflow.errors import NotFound
from clearflow.settings import settings
from clearflow.tasks import results
from clearflow.tasks.results import Last, Stored
from clearflow.words import lifecycle
from clearflow.words.models import SCHEDULED, Run, State
from clearflow.words.names import shown
from clearflow.words.why import Serving


@dataclass(frozen=True, slots=True)
class Step:
    """One state of the task's life, in words."""

    at: datetime | None
    state: str
    words: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a waiting task stands: its number from 1, of how many, and why it waits."""

    number: int
    of: int
    why: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything about one task. `end` says in words how it ended."""

    run: Run
    status: str
    flow: str
    attempt: int
    max_attempts: int
    agent: str | None
    since: datetime | None
    place: Place | None
    end: str | None
    aborted_by: str | None
    aborted_at: datetime | None
    history: Sequence[Step]
    scalars: Sequence[Last]
    artifacts: Sequence[Stored]
    url: str


async def show(api: Api, run: Run, agents: Sequence[Serving]) -> Shown:
    """Everything about a task; `agents` are all there are."""
    history = await runs.history(api, run.id)
    now = api.clock.now()
    abort = lifecycle.abort_in(history)
    flows = await deployments.flow_names(api, [run.flow_id]) if run.flow_id else {}
    agent = next((s.note.agent for s in reversed(history) if s.note.agent), None)
    waits = lifecycle.is_waiting(run) and not run.later(now)
    ended = run.state is not None and run.state.final
    return Shown(
        run=run,
        status=run.status(now),
        flow=shown(flows.get(run.flow_id, "")),
        attempt=run.note.attempt,
        max_attempts=int(run.job_variables.get("max_attempts") or settings().max_attempts),
        agent=None if waits else agent,
        since=lifecycle.since(run),
        place=await _place(api, run, agents) if waits else None,
        end=_words(run.state) if ended and run.state else None,
        aborted_by=(abort.note.by or "the Prefect UI") if abort else None,
        aborted_at=abort.at if abort else None,
        history=[Step(s.at, s.name, _words(s)) for s in history],
        scalars=await results.last(api, run.id),
        artifacts=await results.stored(api, run.id),
        url=api.connection.run_url(run.id),
    )


async def _place(api: Api, run: Run, agents: Sequence[Serving]) -> Place | None:
    if run.pool is None or run.queue_shown is None or run.queue_id is None or run.place is None:
        return None
    try:
        queue = await pools.queue(api, run.pool, run.queue_shown)
    except NotFound:
        return Place(1, 1, f"its queue {run.queue_shown!r} has been deleted")
    waiting = {"state": {"type": {"any_": [SCHEDULED]}}}
    upto = {**waiting, "next_scheduled_start_time": {"before_": run.place.isoformat()}}
    number = await runs.count(api, upto, queue_id=run.queue_id)
    everybody = await runs.count(api, waiting, queue_id=run.queue_id)
    situation = await situate(api, queue, agents)
    return Place(number, max(number, everybody), reason(run, situation, number - 1))


def _words(state: State) -> str:
    return state.note.text or state.name.lower()
