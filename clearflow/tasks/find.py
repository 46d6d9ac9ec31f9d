"""Finding tasks, newest first."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from clearflow._prefect import many, runs
from clearflow._prefect.http import Api
from clearflow.errors import NotFound, Usage
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
    STATUSES,
    Run,
)
from clearflow.words.names import stored

_TYPES = {
    "draft": PAUSED,
    "scheduled": SCHEDULED,
    "queued": SCHEDULED,
    "retrying": SCHEDULED,
    "starting": PENDING,
    "running": RUNNING,
    "paused": PAUSED,
    "aborting": CANCELLING,
    "completed": COMPLETED,
    "failed": FAILED,
    "crashed": CRASHED,
    "aborted": CANCELLED,
}
_PREFIX = re.compile(r"[0-9a-f]{4}[0-9a-f-]*", re.IGNORECASE)
# Two tasks that share this many characters of their ids are not to be expected.
_SURE = 8


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked for; everything that is given has to fit.

    `name` is a part of the task's name, in any case; `statuses` are words of STATUSES. Tasks
    planned for later come only when `scheduled` is among them.
    """

    project: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    user: str | None = None
    statuses: Sequence[str] = ()
    queue: str | None = None
    pool: str | None = None
    prefix: str | None = None

    def filter(self) -> dict[str, Any]:
        """The part of it that the server can decide."""
        tags = list(self.tags)
        tags += [f"project:{self.project}"] if self.project is not None else []
        tags += [f"user:{self.user}"] if self.user is not None else []
        where: dict[str, Any] = {}
        if tags:
            where["tags"] = {"all_": tags}
        if self.name:
            where["name"] = {"like_": self.name}
        if self.queue is not None:
            where["work_queue_name"] = {"any_": [stored(self.queue)]}
        if self.statuses:
            where["state"] = {"type": {"any_": sorted({_TYPES[s] for s in self._checked()})}}
            if "queued" in self.statuses:
                # To its owner a task that somebody moves waits.
                where["state"]["type"]["any_"] += [PENDING]
        return where

    def _checked(self) -> Sequence[str]:
        for status in self.statuses:
            if status not in _TYPES:
                raise Usage(f"{status!r} is no status", hint=f"one of {', '.join(STATUSES)}")
        return self.statuses

    def fits(self, run: Run, status: str) -> bool:
        """The rest of it."""
        if run.part:
            return False
        if self.statuses:
            if status not in self.statuses:
                return False
        elif status == "scheduled":
            return False
        if self.name and self.name.lower() not in run.name.lower():
            return False
        return self.prefix is None or run.task_id.startswith(self.prefix.lower())


async def find(api: Api, search: Search, limit: int | None = None) -> AsyncIterator[Run]:
    """The tasks that fit, newest first, as they come; all of them without a limit."""
    found = 0
    async for run in runs.find(api, search.filter(), pool=search.pool):
        if not search.fits(run, run.status(api.clock.now())):
            continue
        yield run
        found += 1
        if found == limit:
            return


async def one(api: Api, text: str) -> Run:
    """A task by its id or the first characters of it.

    Raises NotFound, and Usage when more than one task fits.
    """
    if runs.is_id(text):
        return await runs.resolve(api, text)
    if not _PREFIX.fullmatch(text):
        raise NotFound(
            f"{text!r} is not the id of a task", hint="`clearflow task ls` lists tasks with ids"
        )
    found: dict[str, Run] = {}
    async for run in find(api, Search(prefix=text, statuses=STATUSES)):
        found.setdefault(run.task_id, run)
        if len(text) >= _SURE:
            break
        if len(found) > 1:
            names = ", ".join(f"{i} ({r.name})" for i, r in found.items())
            raise Usage(f"{text!r} stands for more than one task: {names}, …")
    if not found:
        raise NotFound(
            f"no task has an id that starts with {text!r}",
            hint="`clearflow task ls` lists tasks with ids",
        )
    (task,) = found
    return await runs.resolve(api, task)


async def several(api: Api, texts: Sequence[str]) -> list[Run]:
    """Tasks by ids or their first characters, each once. Raises NotFound and Usage."""
    whole = [t if runs.is_id(t) else (await one(api, t)).task_id for t in texts]
    return await many.resolve(api, whole)


async def by_runs(api: Api, run_ids: Sequence[str]) -> list[Run]:
    """Those of these runs that are tasks, and no parts of one, as they are now."""
    found: list[Run] = []
    for start in range(0, len(run_ids), runs.PAGE):
        some = list(run_ids[start : start + runs.PAGE])
        found += [r async for r in runs.find(api, {"id": {"any_": some}}) if not r.part]
    return found
