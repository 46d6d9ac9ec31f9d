"""Launching tasks: what schedules, triggers and searches do in the end, exactly once.

A launch has a unique key. The task that it has made carries the key as a tag and as Prefect's
idempotency key, so that the same launch, asked for again or twice at once, finds that task:

* the idempotency key is unique for each flow, and a deployment or a named task has one flow;
* of a selector ("the latest that fits") two launches might choose tasks of different flows, so the
  first one writes down what it has chosen, in a Variable of which the server accepts one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clearflow._prefect import claims, deployments, pools, runs, variables
from clearflow._prefect.hops import hop_draft
from clearflow._prefect.http import Api
from clearflow._prefect.template import VARIABLES
from clearflow.errors import Conflict, NotFound, Refused
from clearflow.settings import settings
from clearflow.tasks import find as finding
from clearflow.tasks.clone import clone
from clearflow.tasks.describe import Selector, latest, name_of, select
from clearflow.tasks.script import job_of
from clearflow.words import launches, lifecycle, parameters, templates
from clearflow.words.models import ACTIVE, SCHEDULED, Run
from clearflow.words.names import LAUNCHED, OF_LAUNCHES, labels, slug, stored, tags
from clearflow.words.notes import Note
from clearflow.words.scripts import Script

_CHOSEN = "clearflow_launch_"


class Choice(BaseModel):
    """The latest task that fits all that is given, without those that were launched so."""

    model_config = ConfigDict(extra="forbid")

    project: str | None = None
    name: str | None = None
    pattern: str | None = Field(None, description="A regular expression, searched in the name.")
    tags: list[str] = Field(
        default_factory=list, description="Any of them; `__$all` as in ClearML."
    )
    statuses: list[str] = Field(default_factory=list)
    user: str | None = None

    def selector(self) -> Selector:
        return Selector(
            self.project, self.name, self.pattern, tuple(self.tags), tuple(self.statuses), self.user
        )


class Launch(BaseModel):
    """A task to be launched: what, where, and with which changes. JSON can carry it."""

    model_config = ConfigDict(extra="forbid")

    task: str | None = Field(None, description="The id of the task to be cloned.")
    choice: Choice | None = Field(None, description="The task to be cloned: the latest that fits.")
    deployment: str | None = Field(None, description="The id, or flow/name, of a deployment.")
    queue: str | None = Field(None, description="Its queue; without one that of the source.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="By flat names such as General/lr; may be templates."
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="Job variables, such as image or gpus."
    )
    name: str | None = None
    comment: str | None = None
    tags: list[str] = Field(default_factory=list)
    target_project: str | None = None
    single_instance: bool = Field(False, description="Not while one launched before has not ended.")
    reuse: bool = Field(False, description="Queue the task itself again instead of a clone.")
    time_limit_hours: float | None = Field(None, gt=0, description="Then it is aborted.")
    key: str = Field("", description="Of one key there is one launch.")
    origin: str = Field("", description="Who launches: of one origin is single_instance.")
    cause: str = Field("", description="Why, in words that people read.")
    links: dict[str, str] = Field(default_factory=dict, description="What caused it, by name.")

    @model_validator(mode="after")
    def _one_source(self) -> Launch:
        named = [s for s in (self.task, self.choice, self.deployment) if s]
        if len(named) != 1:
            raise ValueError("launch one thing: a task, a choice of tasks, or a deployment")
        if self.reuse and not self.task:
            raise ValueError("only a task that is named by its id can be used again")
        if self.choice and self.choice == Choice():
            raise ValueError("which task? name its project, name or tags")
        return self

    @property
    def what(self) -> str:
        """In a word or two, for people."""
        return self.task or self.deployment or str(self.choice and self.choice.selector())


@dataclass(frozen=True, slots=True)
class Source:
    """What a launch starts from: a task, or a deployment as the server has it."""

    run: Run | None = None
    deployment: Mapping[str, Any] | None = None

    @property
    def pool(self) -> str:
        named = self.run.pool if self.run else (self.deployment or {}).get("work_pool_name")
        return named or settings().pool


class Known:
    """What launches of one moment need not ask for, each by itself.

    `fresh`: nobody has tried any of them before. The server has one task of an idempotency key; a
    tag only finds those that have gone to another queue since.
    """

    def __init__(self, fresh: bool) -> None:
        self.fresh = fresh
        self._sources: dict[str, asyncio.Task[Source]] = {}

    async def source(self, api: Api, order: Launch) -> Source:
        """The deployment that an order starts from, asked for once. Raises NotFound."""
        name = str(order.deployment)
        if name not in self._sources:
            self._sources[name] = asyncio.create_task(source(api, order))
        return await self._sources[name]


def is_flow(run: Run) -> bool:
    """Whether a task is a flow, whose parameters are its arguments, and not a script."""
    return Script.of(job_of(run)) is None


async def source(api: Api, order: Launch) -> Source:
    """The task or deployment that an order starts from, at this moment. Raises NotFound."""
    if order.task:
        return Source(run=await finding.one(api, order.task))
    if order.deployment:
        return Source(deployment=await _deployment(api, order.deployment))
    assert order.choice is not None
    asked = order.choice.selector()
    async for run in select(api, asked):
        if not any(tag.startswith(OF_LAUNCHES) for tag in run.tags):
            return Source(run=run)
    # Those that were launched are better than none; when there is none this says so.
    return Source(run=await latest(api, asked))


async def _deployment(api: Api, text: str) -> dict[str, Any]:
    flow, slash, name = text.rpartition("/")
    try:
        if runs.is_id(text):
            return await deployments.read(api, text)
        if slash:
            return await deployments.by_name(api, stored(flow), stored(name))
    except NotFound:
        pass
    raise NotFound(
        f"there is no deployment {text!r}", hint="its id, or flow/name as `prefect deployment ls`"
    )


async def launch(
    api: Api,
    order: Launch,
    *,
    by: str,
    context: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
    known: Known | None = None,
) -> Run | None:
    """Launch the task, once for each key; None when `single_instance` forbids it now.

    References in parameters, overrides, name, comment and tags are filled in from the `context`.
    `say` hears what was done in a line. Raises NotFound for what is not there any more.
    """
    fresh = known is not None and known.fresh
    if order.key and not fresh and (there := await _made(api, order)) is not None:
        say(f"launched before: {_seen(api, there)}")
        return there
    if order.single_instance and (before := await active(api, order.origin)) is not None:
        say(f"not launched: {_seen(api, before)} has not ended")
        return None
    if context is not None:
        order = _rendered(order, context)
    if order.reuse:
        return await _again(api, order, by, say)
    shared = known is not None and order.deployment is not None
    found = await (known.source(api, order) if known and shared else _settled(api, order))
    if order.key and order.choice is not None and (there := await _made(api, order)) is not None:
        await _forget(api, order)
        say(f"launched before: {_seen(api, there)}")
        return there
    run = await (_cloned if found.run is not None else _deployed)(api, order, found, by)
    if order.choice is not None and order.key:
        await _forget(api, order)
    say(f"launched {_seen(api, run)}")
    return run


async def active(api: Api, origin: str) -> Run | None:
    """A task of this origin that waits or runs."""
    where = {
        "tags": {"all_": [launches.origin_tag(origin)]},
        "state": {"type": {"any_": [SCHEDULED, *sorted(ACTIVE)]}},
    }
    async for run in runs.find(api, where):
        if not run.later(api.clock.now()):
            return run
    return None


async def _made(api: Api, order: Launch) -> Run | None:
    where = {"tags": {"all_": [launches.key_tag(order.key)]}}
    found = [run async for run in runs.find(api, where)]
    return max(found, key=runs.hop, default=None)


def _seen(api: Api, run: Run) -> str:
    where = f" in {run.queue_shown}" if run.queue else ""
    return f"{name_of(run)}{where}, {run.status(api.clock.now())}: {api.connection.run_url(run.id)}"


def _rendered(order: Launch, context: Mapping[str, Any]) -> Launch:
    said = order.model_dump(include={"parameters", "overrides", "name", "comment", "tags"})
    filled = templates.filled(said, context)
    filled["tags"] = [str(tag) for tag in filled["tags"]]
    return order.model_copy(update=filled)


# -- of a selector: one choice for each key ---------------------------------------------------


def _record(order: Launch) -> str:
    return f"{_CHOSEN}{slug(order.key, 12)}"


async def _settled(api: Api, order: Launch) -> Source:
    """What it starts from; of a selector, what the first launch with this key has chosen."""
    found = await source(api, order)
    if order.choice is None or not order.key or found.run is None:
        return found
    try:
        chosen = {"task": found.run.task_id}
        await api.post(
            "/variables/", {"name": _record(order), "value": chosen, "tags": ["clearflow"]}
        )
    except Conflict:
        said = await variables.read(api, _record(order))
        if said is not None:
            found = Source(run=await runs.resolve(api, said["task"]))
    return found


async def _forget(api: Api, order: Launch) -> None:
    """What was chosen need not be known any more: the task is there, and carries the key."""
    await variables.delete(api, _record(order))


# -- making it --------------------------------------------------------------------------------


def _marks(order: Launch) -> list[str]:
    marks = [launches.key_tag(order.key)] if order.key else []
    return [*marks, launches.origin_tag(order.origin)] if order.origin else marks


def _labels(order: Launch) -> dict[str, str]:
    said = {LAUNCHED: order.cause} if order.cause else {}
    return {**said, **{f"{LAUNCHED}.{name}": link for name, link in order.links.items()}}


def _note(order: Launch, by: str) -> Note:
    return Note(f"launched by {order.cause or by}", by=by)


def job_variables(order: Launch) -> dict[str, Any]:
    """What the launched task asks of its machine, beside what its source asks."""
    job = launches.overrides(order.overrides, VARIABLES)
    if order.time_limit_hours is not None:
        job["time_limit_seconds"] = order.time_limit_hours * 3600
    return job


async def _cloned(api: Api, order: Launch, found: Source, by: str) -> Run:
    base = found.run
    assert base is not None
    return await clone(
        api,
        base,
        by=by,
        name=order.name or name_of(base),
        comment=order.comment,
        project=order.target_project,
        queue=stored(order.queue) if order.queue else None,
        parameters=changed(base, order.parameters),
        job_variables=job_variables(order),
        tags=[*order.tags, *_marks(order)],
        labels=_labels(order),
        write=lifecycle.queued(_note(order, by)),
        key=f"launch {order.key}" if order.key else None,
    )


async def _deployed(api: Api, order: Launch, found: Source, by: str) -> Run:
    base = found.deployment
    assert base is not None
    known = base.get("labels") or {}
    project = order.target_project or known.get("clearflow.project")
    title = order.name or known.get("clearflow.name") or base["name"]
    own = [t for t in base["tags"] if not t.startswith("project:")]
    return await runs.create(
        api,
        base,
        write=lifecycle.queued(_note(order, by)),
        name=title,
        queue=stored(order.queue) if order.queue else None,
        parameters=parameters.merged(
            base["parameters"] or {}, launches.wanted(order.parameters, flow=True)
        ),
        job_variables=job_variables(order),
        tags=[*dict.fromkeys([*own, *order.tags, *_marks(order)]), *tags(project, by)],
        labels={**labels(title, project), **_labels(order)},
        idempotency_key=f"launch {order.key}" if order.key else None,
    )


def changed(base: Run, said: Mapping[str, Any]) -> dict[str, Any]:
    """A task's parameters with changes by flat names."""
    return parameters.merged(base.parameters, launches.wanted(said, is_flow(base)))


async def _again(api: Api, order: Launch, by: str, say: Callable[[str], None]) -> Run | None:
    """Queue the very task again, whatever became of it before; not while it waits or runs.

    The key is in the message of the state that is written, so it counts exactly when that does.
    """
    run = await finding.one(api, str(order.task))
    mark = launches.key_tag(order.key)
    if order.key:
        for state in await runs.history(api, run.id):
            if state.note.text.endswith(f"({mark})"):
                say(f"launched before: {_seen(api, run)}")
                return run
    if run.state is not None and (run.state.type in ACTIVE or run.state.type == SCHEDULED):
        say(f"not launched: {_seen(api, run)} has not ended")
        return None
    if order.parameters:
        await runs.patch(api, run.id, parameters=changed(run, order.parameters))
    where = (
        await pools.queue(api, run.pool or settings().pool, order.queue) if order.queue else None
    )
    text = f"{_note(order, by).text} ({mark})" if order.key else _note(order, by).text
    write = lifecycle.enqueued(by, api.clock.now())
    write = replace(write, note=write.note.but(text))
    if where is not None and where.id != run.queue_id:
        run = await hop_draft(api, await runs.read(api, run.id), where, write, by)
    elif await claims.requeue(api, run, write, by=by) is None:
        raise Refused(f"somebody else has just queued task {run.task_id[:8]} ({run.name})")
    fresh = await runs.read(api, run.id)
    say(f"launched again: {_seen(api, fresh)}")
    return fresh
