"""A task as programs see it, and those that fit what a program asks for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from clearflow._prefect.http import Api
from clearflow.errors import NotFound, Usage
from clearflow.tasks import find as finding
from clearflow.tasks.script import job_of
from clearflow.words import scripts, tagging
from clearflow.words.models import Run
from clearflow.words.names import OF_LAUNCHES, OF_STEPS

OWN = ("project:", "user:", "task:", "clearflow:", *OF_STEPS, *OF_LAUNCHES)
"""How tags begin that are not the user's."""

OUTPUT = "clearflow.output"
"""The label that says where the models and artifacts of a task are kept, if not in the store."""

_PROPERTY, _CONFIGURATION = "clearflow.property.", "clearflow.configuration."


def describe(api: Api, run: Run) -> dict[str, Any]:
    """What there is to say about a task, as JSON has it."""
    labels = run.labels
    return {
        "id": run.task_id,
        "run": run.id,
        "name": name_of(run),
        "project": labels.get("clearflow.project") or run.project,
        "tags": tags_of(run),
        "user": run.owner,
        "status": run.status(api.clock.now()),
        "reason": run.note.text,
        "queue": run.queue_shown,
        "agent": run.note.agent,
        "parameters": dict(run.parameters),
        "job": {k: v for k, v in job_of(run).items() if k != scripts.KEY},
        "url": api.connection.run_url(run.id),
        "comment": labels.get("clearflow.comment", ""),
        "output": labels.get(OUTPUT),
        "progress": labels.get("clearflow.progress"),
        "parent": labels.get("clearflow.parent"),
        "properties": _under(_PROPERTY, labels),
        "configurations": _under(_CONFIGURATION, labels),
        "created": run.created.isoformat() if run.created else None,
        "started": run.started.isoformat() if run.started else None,
        "ended": run.ended.isoformat() if run.ended else None,
    }


def name_of(run: Run) -> str:
    """The true name of a task."""
    return str(run.labels.get("clearflow.name") or run.name)


def tags_of(run: Run) -> list[str]:
    """The tags that people gave a task."""
    return [t for t in run.tags if not t.startswith(OWN)]


def _under(prefix: str, labels: Mapping[str, Any]) -> dict[str, Any]:
    return {k[len(prefix) :]: v for k, v in labels.items() if k.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class Selector:
    """What a task has to be like; everything that is given has to fit.

    `name` is the whole name, `pattern` a regular expression that is searched in it, `tags` are as
    in words/tagging.py, `statuses` words of STATUSES.
    """

    project: str | None = None
    name: str | None = None
    pattern: str | None = None
    tags: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    user: str | None = None

    def __str__(self) -> str:
        asked = {
            "project": self.project,
            "name": self.name,
            "a name like": self.pattern,
            "tags": list(self.tags) or None,
            "status": list(self.statuses) or None,
            "user": self.user,
        }
        return ", ".join(f"{k} {v!r}" for k, v in asked.items() if v is not None)


async def select(api: Api, asked: Selector, limit: int | None = None) -> AsyncIterator[Run]:
    """The tasks that fit, the latest first. Raises Usage for a bad pattern or status."""
    try:
        like = re.compile(asked.pattern) if asked.pattern else None
    except re.error as error:
        raise Usage(f"{asked.pattern!r} is not a regular expression: {error}") from None
    search = finding.Search(
        project=asked.project, name=asked.name, user=asked.user, statuses=asked.statuses
    )
    found = 0
    async for run in finding.find(api, search):
        name = name_of(run)
        if asked.name is not None and name != asked.name:
            continue
        if like is not None and not like.search(name):
            continue
        if tagging.fits(tags_of(run), asked.tags):
            yield run
            found += 1
        if found == limit:
            return


async def latest(api: Api, asked: Selector) -> Run:
    """The latest task that fits. Raises NotFound when there is none."""
    async for run in select(api, asked, 1):
        return run
    raise NotFound(f"there is no task of {asked}" if str(asked) else "there is no task")
