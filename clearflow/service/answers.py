"""What programs ask about tasks: one verb, some arguments, an answer that JSON can carry.

A program on a laptop asks here directly; one that an agent runs asks its supervisor, which asks
here. So a task's own process needs neither Prefect nor the server's key.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clearflow._prefect import artifacts, pools, runs
from clearflow._prefect.http import Api
from clearflow.capture.git import clone
from clearflow.environment.collect import Needed
from clearflow.errors import Refused, Usage
from clearflow.queues import drafts
from clearflow.service.results import Results, Scalars
from clearflow.settings import settings
from clearflow.tasks import abort as aborting
from clearflow.tasks import find as finding
from clearflow.tasks import logs, results, script, wait
from clearflow.tasks.find import Search
from clearflow.tasks.script import Order, pack, submit
from clearflow.words import lifecycle, tagging
from clearflow.words.curves import stored, thinned
from clearflow.words.models import PAUSED, SCHEDULED, Run
from clearflow.words.names import HERE

_OWN = ("project:", "user:", "task:", HERE)
_PROPERTY, _CONFIGURATION = "clearflow.property.", "clearflow.configuration."
PUBLISHED = "published"

OF_RESULTS = ("scalars", "last", "artifacts", "artifact")
"""The verbs that read results."""


class Service:
    """Answers for one person, `by`, in whose name tasks are changed."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by
        self._verbs: Mapping[str, Callable[..., Awaitable[Any]]] = {
            "describe": self._describe,
            "find": self._find,
            "clone": self._clone,
            "create": self._create,
            "enqueue": self._enqueue,
            "dequeue": self._dequeue,
            "abort": self._abort,
            "wait": self._wait,
            "logs": self._logs,
            "change": self._change,
            "finish": self._finish,
            "delete": self._delete,
            "report": self._report,
            "scalars": self._scalars,
            "last": self._last,
            "artifacts": self._artifacts,
            "artifact": self._artifact,
        }

    def knows(self, verb: str) -> bool:
        return verb in self._verbs

    async def answer(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """The answer to a question. Raises a ClearflowError that says why there is none."""
        return await self._verbs[verb](**arguments)

    def describe(self, run: Run) -> dict[str, Any]:
        """A task as programs see it."""
        labels = run.labels
        return {
            "id": run.task_id,
            "run": run.id,
            "name": str(labels.get("clearflow.name") or run.name),
            "project": labels.get("clearflow.project") or run.project,
            "tags": [t for t in run.tags if not t.startswith(_OWN)],
            "user": run.owner,
            "status": run.status(self._api.clock.now()),
            "reason": run.note.text,
            "queue": run.queue_shown,
            "agent": run.note.agent,
            "parameters": dict(run.parameters),
            "url": self._api.connection.run_url(run.id),
            "comment": labels.get("clearflow.comment", ""),
            "progress": labels.get("clearflow.progress"),
            "parent": labels.get("clearflow.parent"),
            "properties": _under(_PROPERTY, labels),
            "configurations": _under(_CONFIGURATION, labels),
            "created": run.created.isoformat() if run.created else None,
            "started": run.started.isoformat() if run.started else None,
            "ended": run.ended.isoformat() if run.ended else None,
        }

    async def _describe(self, task: str) -> dict[str, Any]:
        return self.describe(await finding.one(self._api, task))

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
    ) -> list[dict[str, Any]]:
        """Tasks, the latest first. `name` is the whole name, `pattern` a regular expression."""
        if ids is not None:
            return [self.describe(run) for run in await finding.several(self._api, ids)]
        try:
            like = re.compile(pattern) if pattern else None
        except re.error as error:
            raise Usage(f"{pattern!r} is not a regular expression: {error}") from None
        search = Search(project=project, name=name, user=user, statuses=tuple(statuses))
        found: list[dict[str, Any]] = []
        async for run in finding.find(self._api, search):
            seen = self.describe(run)
            if name is not None and seen["name"] != name:
                continue
            if like is not None and not like.search(seen["name"]):
                continue
            if tagging.fits(seen["tags"], tags):
                found.append(seen)
            if len(found) == limit:
                break
        return found

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
        template = source.deployment_id or await script.template_of(self._api, source)
        labels = dict(source.labels)
        labels |= {"clearflow.parent": parent or source.task_id}
        title = name or f"Clone of {labels.get('clearflow.name') or source.name}"
        labels["clearflow.name"] = title
        if comment is not None:
            labels["clearflow.comment"] = comment
        tags = [t for t in source.tags if not t.startswith(("task:", "user:", HERE))]
        if project is not None:
            labels["clearflow.project"] = project
            tags = [t for t in tags if not t.startswith("project:")] + [f"project:{project}"]
        run = await runs.create(
            self._api,
            deployment_id=template,
            write=lifecycle.made(self._by),
            name=title,
            queue=source.queue,
            parameters=source.parameters,
            job_variables=script.job_of(source),
            tags=[*tags, f"user:{self._by}"],
            labels=labels,
        )
        return self.describe(run)

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
    ) -> dict[str, Any]:
        """A draft of a script, of a working copy here or of a repository somewhere."""
        needed = None if packages is None else Needed(tuple(packages), source="packages")
        with TemporaryDirectory(prefix="clearflow-", ignore_cleanup_errors=True) as place:
            root = Path(folder) if repository is None else Path(place, "repository")
            if repository is not None:
                await asyncio.to_thread(clone, repository, root, branch=branch, commit=commit)
            order = Order(
                root / script,
                arguments=arguments,
                project=project,
                name=name,
                tags=tags,
                needed=needed,
                python_version=python,
            )
            packed = await asyncio.to_thread(pack, order, Path(place, "snapshot"))
            sending = submit(self._api, packed, by=self._by, progress=lambda done, total: None)
            return self.describe(await sending)

    async def _enqueue(self, task: str, queue: str | None = None) -> dict[str, Any]:
        run = await finding.one(self._api, task)
        where = None
        if queue is not None:
            where = await pools.queue(self._api, run.pool or settings().pool, queue)
        (queued,) = await drafts.enqueue(self._api, [run], queue=where, by=self._by)
        return self.describe(await runs.read(self._api, queued.id))

    async def _dequeue(self, task: str) -> dict[str, Any]:
        run = await finding.one(self._api, task)
        (taken,) = await drafts.dequeue(self._api, [run], by=self._by)
        return self.describe(await runs.read(self._api, taken.id))

    async def _abort(self, task: str) -> dict[str, Any]:
        run = await finding.one(self._api, task)
        (aborted,) = await aborting.abort(self._api, [run], by=self._by)
        return self.describe(aborted)

    async def _wait(
        self, task: str, timeout: float | None = None, until: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Until it has ended, or has one of the statuses `until`."""
        run = await finding.one(self._api, task)
        reached = lambda fresh: self._status(fresh) in until  # noqa: E731
        (ended,) = await wait.wait(self._api, [run], timeout=timeout, enough=reached)
        return self.describe(ended)

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
    ) -> dict[str, Any]:
        """Change what is given. `parameters` are all of them; of `labels` those that are named."""
        run = await finding.one(self._api, task)
        changes: dict[str, Any] = {}
        new = dict(labels or {})
        own = [t for t in run.tags if t.startswith(_OWN)]
        others = [t for t in run.tags if not t.startswith(_OWN)] if tags is None else list(tags)
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
        if changes:
            await runs.patch(self._api, run.id, **changes)
        if new:
            await runs.label(self._api, run.id, new)
        return self.describe(await runs.read(self._api, run.id))

    async def _finish(self, task: str, status: str, reason: str = "") -> dict[str, Any]:
        """Record the end of a task that nobody runs: a draft, or one that has ended otherwise."""
        run = await finding.one(self._api, task)
        write = lifecycle.marked(run, status, self._by, reason)
        if write is None:
            raise Refused(f"task {run.task_id[:8]} ({run.name}) is {self._status(run)}: abort it")
        await runs.propose(self._api, run.id, write)
        return self.describe(await runs.read(self._api, run.id))

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

    # -- results ------------------------------------------------------------------------------

    async def _report(
        self,
        task: str,
        scalars: Scalars = (),
        items: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Results of a task that somebody else runs, or nobody."""
        run = await finding.one(self._api, task)
        failed: list[str] = []
        writing = Results(self._api, run.id, failed.append)
        writing.take(scalars, items)
        await writing.written()
        if failed:
            raise Refused(failed[0])

    async def _scalars(self, task: str, most: int) -> list[Any]:
        """Title, series, iterations and values, at most so many of each."""
        run = await finding.one(self._api, task)
        found = []
        for (title, series), curve in sorted((await results.curves(self._api, run.id)).items()):
            few = thinned(curve, most)
            found.append([title, series, few.iterations, [stored(v) for v in few.values]])
        return found

    async def _last(self, task: str) -> list[Any]:
        """Title, series, last, min, max and last iteration."""
        run = await finding.one(self._api, task)
        found = await results.last(self._api, run.id)
        numbers = [(each, map(stored, (each.last, each.min, each.max))) for each in found]
        return [[each.title, each.series, *three, each.iteration] for each, three in numbers]

    async def _artifacts(self, task: str) -> list[dict[str, Any]]:
        run = await finding.one(self._api, task)
        return [asdict(each) for each in await results.stored(self._api, run.id)]

    async def _artifact(self, task: str, name: str) -> dict[str, Any]:
        """An artifact with its content in base64."""
        run = await finding.one(self._api, task)
        about, content = await results.content(self._api, run, name)
        return {**asdict(about), "content": base64.b64encode(content).decode()}


def _check_editable(run: Run) -> None:
    if run.state is not None and run.state.type not in {PAUSED, SCHEDULED}:
        raise Refused(
            f"task {run.task_id[:8]} ({run.name}) has been started: its parameters stay",
            hint="clone it, and change the clone",
        )


def _under(prefix: str, labels: Mapping[str, Any]) -> dict[str, Any]:
    return {k[len(prefix) :]: v for k, v in labels.items() if k.startswith(prefix)}
