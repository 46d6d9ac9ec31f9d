"""Tasks as commands show them: as records for programs, as facts for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clearflow.cli.output import ago

if TYPE_CHECKING:
    from datetime import datetime

    from clearflow.tasks.results import Last
    from clearflow.tasks.show import Shown
    from clearflow.words.models import Run


def queued(run: Run, now: datetime) -> str:
    """When it was queued, or for when it is planned."""
    from clearflow.words import lifecycle

    if run.later(now) and run.place is not None:
        return f"due {run.place:%F %T}"
    return f"{ago(lifecycle.since(run), now)} ago"


def record(run: Run, now: datetime) -> dict[str, Any]:
    """One task of a listing."""
    from clearflow.words import lifecycle

    return {
        "task_id": run.task_id,
        "run_id": run.id,
        "name": run.name,
        "project": run.project,
        "status": run.status(now),
        "pool": run.pool,
        "queue": run.queue_shown,
        "owner": run.owner,
        "tags": list(run.tags),
        "agent": run.note.agent,
        "attempt": run.note.attempt,
        "queued": lifecycle.since(run),
        "started": run.started,
        "ended": run.ended,
        "parameters": dict(run.parameters),
    }


def whole(shown: Shown, now: datetime) -> dict[str, Any]:
    """Everything about one task."""
    return {
        **record(shown.run, now),
        "flow": shown.flow,
        "agent": shown.agent,
        "max_attempts": shown.max_attempts,
        "place": shown.place,
        "end": shown.end,
        "aborted_by": shown.aborted_by,
        "aborted_at": shown.aborted_at,
        "job_variables": dict(shown.run.job_variables),
        "history": list(shown.history),
        "scalars": [{**asdict(s), **_numbers(s)} for s in shown.scalars],
        "artifacts": [
            {k: v for k, v in asdict(a).items() if k not in {"file", "content"}}
            for a in shown.artifacts
        ],
        "url": shown.url,
    }


def _numbers(scalar: Last) -> dict[str, Any]:
    """Its values as JSON has them, which knows no NaN."""
    from clearflow.words.curves import stored

    return {name: stored(getattr(scalar, name)) for name in ("last", "min", "max")}


def scalars(shown: Shown) -> list[list[Any]]:
    """A line for each of its scalars."""
    return [
        [s.title, s.series, *(f"{v:.6g}" for v in (s.last, s.min, s.max)), s.iteration]
        for s in shown.scalars
    ]


def artifacts(shown: Shown) -> list[list[Any]]:
    """A line for each of its artifacts."""
    return [[a.name, a.type, f"{a.size:,}", a.preview.partition("\n")[0]] for a in shown.artifacts]


def facts(shown: Shown, now: datetime) -> list[list[Any]]:
    """The same as lines of a name and what there is to say."""
    run, place = shown.run, shown.place
    aborted = shown.aborted_by and f"{shown.aborted_by}, {ago(shown.aborted_at, now)} ago"
    rows: list[list[Any]] = [
        ["name", run.name],
        ["project", run.project],
        ["status", shown.status],
        ["queue", run.queue_shown],
        ["place", place and f"{place.number} of {place.of}"],
        ["waits", place and f"{ago(shown.since, now)}: {place.why}"],
        ["attempt", f"{shown.attempt} of {shown.max_attempts}"],
        ["agent", shown.agent],
        ["end", shown.end],
        ["aborted by", aborted],
        ["owner", run.owner],
        ["flow", shown.flow],
        ["parameters", ", ".join(f"{k}={v!r}" for k, v in run.parameters.items())],
        ["asks for", ", ".join(f"{k}={v!r}" for k, v in run.job_variables.items())],
        ["link", shown.url],
    ]
    return [row for row in rows if row[1]]
