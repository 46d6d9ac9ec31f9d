"""The verbs about tasks: finding, making, changing, ending them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clearflow._prefect import artifacts, pools, runs
from clearflow._prefect.http import Api
from clearflow.capture.git import clone as fetch_copy
from clearflow.environment.collect import Needed
from clearflow.environment.recipe import Recipe
from clearflow.errors import Refused, Usage
from clearflow.queues import drafts
from clearflow.service.verbs import Verb
from clearflow.settings import settings
from clearflow.tasks import abort as aborting
from clearflow.tasks import find as finding
from clearflow.tasks import logs, wait
from clearflow.tasks.clone import clone
from clearflow.tasks.describe import OWN, Selector, describe, select, tags_of
from clearflow.tasks.functions import Function, draft
from clearflow.tasks.packing import Order, pack
from clearflow.tasks.script import submit
from clearflow.tasks.telling import tell, tell_tags
from clearflow.words import lifecycle
from clearflow.words.filters import Filter
from clearflow.words.models import PAUSED, SCHEDULED, Run
from clearflow.words.names import ASKS, HERE
from clearflow.words.tagging import PUBLISHED


class Tasks:
    """Answers for one person, `by`, in whose name tasks are changed."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def verbs(self) -> dict[str, Verb]:
        return {
            "describe": self._describe,
            "find": self._find,
            "clone": self._clone,
            "create": self._create,
            "function": self._function,
            "enqueue": self._enqueue,
            "dequeue": self._dequeue,
            "abort": self._abort,
            "wait": self._wait,
            "logs": self._logs,
            "change": self._change,
            "publish": self._publish,
            "finish": self._finish,
            "delete": self._delete,
        }

    async def _describe(self, task: str) -> dict[str, Any]:
        return describe(self._api, await finding.one(self._api, task))

    async def _find(
        self,
        project: str | None = None,
        name: str | None = None,
        pattern: str | None = None,
        tags: Sequence[str] = (),
        statuses: Sequence[str] = (),
        user: str | None = None,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Tasks, the latest first. `name` is the whole name, `pattern` a regular expression.

        `where` is a task_filter as in words/filters.py, whose order and pages count.
        """
        more = Filter.parse(where or {})
        if ids is not None:
            found = [describe(self._api, run) for run in await finding.several(self._api, ids)]
            return more.chosen(found)
        several = (*statuses, *more.statuses)
        asked = Selector(project, name, pattern, tuple(tags), several, user)
        # What the server cannot choose is chosen among all.
        most = None if where else limit
        found = [describe(self._api, run) async for run in select(self._api, asked, most)]
        return more.chosen(found)[:limit]

    async def _clone(
        self,
        task: str,
        name: str | None = None,
        comment: str | None = None,
        parent: str | None = None,
        project: str | None = None,
    ) -> dict[str, Any]:
        """A draft like a task, whatever that one does."""
        source = await finding.one(self._api, task)
        made = await clone(
            self._api,
            source,
            by=self._by,
            name=name,
            comment=comment,
            parent=parent,
            project=project,
        )
        return describe(self._api, made)

    async def _create(
        self,
        script: str,
        folder: str,
        project: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        arguments: Sequence[str] = (),
        packages: Sequence[str] | None = None,
        python: str | None = None,
        repository: str | None = None,
        branch: str | None = None,
        commit: str | None = None,
        directory: str | None = None,
        job: Mapping[str, Any] | None = None,
        module: str = "",
        function: str = "",
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A draft of a script, of a working copy here or of a repository somewhere.

        A `module` is run instead of a script; of a script a `function` can be called.
        """
        needed = None if packages is None else Needed(tuple(packages), source="packages")
        with TemporaryDirectory(prefix="clearflow-", ignore_cleanup_errors=True) as place:
            root = Path(folder) if repository is None else Path(place, "repository")
            if repository is not None:
                await asyncio.to_thread(fetch_copy, repository, root, branch=branch, commit=commit)
            home = root / (directory or "")
            order = Order(
                _file_of(module, home) if module else root / script,
                arguments=arguments,
                project=project,
                name=name,
                tags=tags,
                needed=needed,
                python_version=python,
                folder=directory,
                variables=job or {},
                function=function,
                module=module,
                parameters=parameters or {},
            )
            packed = await asyncio.to_thread(pack, order, Path(place, "snapshot"))
            sending = submit(self._api, packed, by=self._by, progress=lambda done, total: None)
            return describe(self._api, await sending)

    async def _function(
        self,
        task: str,
        function: Mapping[str, Any],
        name: str,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A draft that calls a function of a task's code."""
        run = await finding.one(self._api, task)
        called, given = Function(**function), parameters or {}
        made = await draft(self._api, run, called, by=self._by, name=name, parameters=given)
        return describe(self._api, made)

    async def _enqueue(self, task: str, queue: str | None = None) -> dict[str, Any]:
        run = await finding.one(self._api, task)
        where = None
        if queue is not None:
            where = await pools.queue(self._api, run.pool or settings().pool, queue)
        (queued,) = await drafts.enqueue(self._api, [run], queue=where, by=self._by)
        return describe(self._api, await runs.read(self._api, queued.id))

    async def _dequeue(self, task: str) -> dict[str, Any]:
        run = await finding.one(self._api, task)
        (taken,) = await drafts.dequeue(self._api, [run], by=self._by)
        return describe(self._api, await runs.read(self._api, taken.id))

    async def _abort(self, task: str) -> dict[str, Any]:
        run = await finding.one(self._api, task)
        (aborted,) = await aborting.abort(self._api, [run], by=self._by)
        return describe(self._api, aborted)

    async def _wait(
        self, task: str, timeout: float | None = None, until: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Until it has ended, or has one of the statuses `until`."""
        run = await finding.one(self._api, task)
        reached = lambda fresh: self._status(fresh) in until  # noqa: E731
        (ended,) = await wait.wait(self._api, [run], timeout=timeout, enough=reached)
        return describe(self._api, ended)

    async def _logs(self, task: str, last: int | None = None) -> list[str]:
        run = await finding.one(self._api, task)
        return [line.message async for line in logs.read(self._api, run, last)]

    async def _change(
        self,
        task: str,
        name: str | None = None,
        project: str | None = None,
        tags: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any] | None = None,
        job: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Change what is given.

        `parameters` are all of them; of `labels` and of the job variables `job` those that are
        named.
        """
        run = await finding.one(self._api, task)
        if PUBLISHED in run.tags and (name, project, parameters, job) != (None,) * 4:
            raise Refused(f"task {run.task_id[:8]} ({run.name}) is published: it stays as it is")
        changes: dict[str, Any] = {}
        new = dict(labels or {})
        own = [t for t in run.tags if t.startswith(OWN)]
        others = [t for t in run.tags if not t.startswith(OWN)] if tags is None else list(tags)
        if project is not None:
            own = [t for t in own if not t.startswith("project:")] + [f"project:{project}"]
            new["clearflow.project"] = project
        if tags is not None or project is not None:
            changes["tags"] = [*others, *own]
        if name is not None:
            changes["name"] = new["clearflow.name"] = name
        if parameters is not None:
            _check_editable(run)
            changes["parameters"] = dict(parameters)
        if job:
            if HERE not in run.tags:
                _check_editable(run)
            Recipe.of({**run.job_variables, **job}, prefect=False)
            new[ASKS] = json.dumps({**json.loads(run.labels.get(ASKS) or "{}"), **job})
        if changes:
            await runs.patch(self._api, run.id, **changes)
        if new:
            await runs.label(self._api, run.id, new)
        fresh = await runs.read(self._api, run.id)
        if tags is not None:
            await tell_tags(self._api, fresh, tags_of(run), by=self._by)
        return describe(self._api, fresh)

    async def _publish(self, task: str) -> dict[str, Any]:
        run = await finding.one(self._api, task)
        if run.state is None or not run.state.final:
            raise Refused(
                f"task {run.task_id[:8]} ({run.name}) is {self._status(run)}",
                hint="what has ended can be published",
            )
        if PUBLISHED not in run.tags:
            await runs.patch(self._api, run.id, tags=[*run.tags, PUBLISHED])
            run = await runs.read(self._api, run.id)
            await tell(self._api, run, PUBLISHED, by=self._by)
        return describe(self._api, run)

    async def _finish(self, task: str, status: str, reason: str = "") -> dict[str, Any]:
        """Record the end of a task that nobody runs: a draft, or one that has ended otherwise."""
        run = await finding.one(self._api, task)
        write = lifecycle.marked(run, status, self._by, reason)
        if write is None:
            raise Refused(f"task {run.task_id[:8]} ({run.name}) is {self._status(run)}: abort it")
        await runs.propose(self._api, run.id, write)
        return describe(self._api, await runs.read(self._api, run.id))

    def _status(self, run: Run) -> str:
        return run.status(self._api.clock.now())

    async def _delete(self, task: str, force: bool = False) -> None:
        run = await finding.one(self._api, task)
        idle = run.state is None or run.state.final or run.state.type == PAUSED
        if not idle and not force:
            raise Refused(
                f"task {run.task_id[:8]} ({run.name}) is {self._status(run)}",
                hint="abort it first",
            )
        if PUBLISHED in run.tags and not force:
            raise Refused(f"task {run.task_id[:8]} ({run.name}) is published")
        await runs.delete(self._api, run.id)
        await artifacts.delete(self._api, run.id)


def _file_of(module: str, folder: Path) -> Path:
    """The file that `python -m MODULE` runs in this folder. Raises Usage."""
    place = folder.joinpath(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__main__.py"):
        if file.is_file():
            return file
    raise Usage(f"there is no module {module} in {folder}")


def _check_editable(run: Run) -> None:
    if run.state is not None and run.state.type not in {PAUSED, SCHEDULED}:
        raise Refused(
            f"task {run.task_id[:8]} ({run.name}) has been started: its parameters stay",
            hint="clone it, and change the clone",
        )
