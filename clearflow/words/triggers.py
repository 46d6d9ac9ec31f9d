"""When a trigger fires: whether something that happened is what it waits for. Pure.

What a trigger asks of a thing (its tags, its status) has to hold when the event has happened, and
the event has to be one that may have made it so. So it fires again when it happens again, and not
when something else happens to a thing that fits already.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clearflow.errors import NotFound, Usage
from clearflow.words.names import slug

DATASET, MODEL, TASK = "dataset", "model", "task"
KINDS = (DATASET, MODEL, TASK)

CREATED, FINALIZED, PUBLISHED, ARCHIVED = "created", "finalized", "published", "archived"
TAGGED, METRIC = "tagged", "metric"

STATES: Mapping[str, tuple[str, ...]] = {
    "draft": ("Draft",),
    "queued": ("Queued",),
    "running": ("Running",),
    "completed": ("Completed",),
    "failed": ("Failed", "Crashed"),
    "crashed": ("Crashed",),
    "aborted": ("Cancelled",),
}
"""The names of the states that Prefect tells of when a task comes to a status."""

METRICS = "clearflow:trigger-metric"
"""The tag of the automations that wait for a metric."""

_FLOW_RUN = "prefect.flow-run."
_BELOW = {"min", "minimum", "below"}
_ABOVE = {"max", "maximum", "above"}
SIGNS = ("min", "max")


@dataclass(frozen=True)
class When:
    """What a trigger waits for; all that is given has to hold.

    `tags` and `required_tags` are all of them, `any_tags` one of them. `statuses` are those of a
    task; `published` and `archived` count as further ones. Of a metric it is the moment when the
    value comes to be at most (`min`) or at least (`max`) the threshold.
    """

    kind: str
    project: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    any_tags: tuple[str, ...] = ()
    required_tags: tuple[str, ...] = ()
    publish: bool = False
    archive: bool = False
    statuses: tuple[str, ...] = ()
    metric: str | None = None
    variant: str | None = None
    threshold: float | None = None
    sign: str = "min"

    @property
    def wanted(self) -> frozenset[str]:
        """The tags that the trigger speaks of."""
        return frozenset({*self.tags, *self.any_tags, *self.required_tags})

    @property
    def all_tags(self) -> tuple[str, ...]:
        """Those that a thing must have, every one."""
        return tuple(dict.fromkeys([*self.tags, *self.required_tags]))

    @property
    def states(self) -> frozenset[str]:
        """The statuses that a thing must have, one of them; none for any."""
        said = {*self.statuses}
        said |= {PUBLISHED} if self.publish else set()
        said |= {ARCHIVED} if self.archive else set()
        return frozenset(said)

    @property
    def words(self) -> str:
        """For people: `a dataset of 'Alice' is tagged 'production'`."""
        where = f" of {self.project!r}" if self.project is not None else ""
        like = f" like {self.name!r}" if self.name is not None else ""
        parts = []
        if self.metric is not None:
            series = f"/{self.variant}" if self.variant is not None else ""
            way = "at most" if self.sign == "min" else "at least"
            parts.append(f"has {self.metric}{series} {way} {self.threshold:g}")
        if self.states:
            parts.append(f"is {' or '.join(sorted(self.states))}")
        if self.all_tags:
            parts.append(f"is tagged {' and '.join(map(repr, self.all_tags))}")
        if self.any_tags:
            parts.append(f"is tagged {' or '.join(map(repr, self.any_tags))}")
        if not parts:
            parts.append("is finalized" if self.kind == DATASET else "is created")
        return f"a {self.kind}{where}{like} {', '.join(parts)}"


def check(when: When) -> None:
    """Raise Usage for what nobody can wait for, in one line."""
    if when.kind not in KINDS:
        raise Usage(f"nobody knows triggers of a {when.kind!r}", hint=", ".join(KINDS))
    if when.name is not None:
        try:
            re.compile(when.name)
        except re.error as error:
            raise Usage(f"{when.name!r} is not a regular expression: {error}") from None
    for status in when.statuses:
        if when.kind != TASK:
            raise Usage(f"a {when.kind} has no status {status!r}", hint="trigger_on_publish=True")
        if status not in STATES:
            raise Usage(
                f"no trigger waits for the status {status!r}",
                hint=", ".join([*STATES, PUBLISHED, ARCHIVED]),
            )
    _check_metric(when)
    if when.kind == TASK and not (when.wanted or when.states or when.metric is not None):
        raise Usage(
            "the trigger does not say when it fires",
            hint="trigger_on_status=…, trigger_on_tags=…, trigger_on_metric=…, trigger_on_publish",
        )


def _check_metric(when: When) -> None:
    if when.metric is None:
        if when.threshold is not None or when.variant is not None:
            raise Usage("a threshold of which metric?", hint="trigger_on_metric=…")
        return
    if when.kind != TASK:
        raise Usage(f"a {when.kind} reports no metric {when.metric!r}")
    if when.threshold is None:
        raise Usage(f"the metric {when.metric!r} has no threshold", hint="trigger_on_threshold=…")
    if math.isnan(when.threshold):
        raise Usage("nothing is above or below nan")


def sign_of(word: str) -> str:
    """`min` or `max`, of any word for it. Raises Usage."""
    if word in _BELOW:
        return "min"
    if word in _ABOVE:
        return "max"
    raise Usage(f"{word!r} is no sign of a threshold", hint="min: at most; max: at least")


def check_project(project: str, known: Collection[str]) -> None:
    """Raise NotFound for a project in which there is nothing."""
    if project not in known:
        near = difflib.get_close_matches(project, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else None
        raise NotFound(f"there is nothing in a project {project!r}", hint=hint)


# -- what it listens to -----------------------------------------------------------------------


def expected(when: When) -> list[str]:
    """The names of the events that may be what the trigger waits for."""
    if when.metric is not None:
        return [f"clearflow.{TASK}.{METRIC}"]
    if when.kind == TASK:
        names = [f"{_FLOW_RUN}{s}" for status in when.statuses for s in STATES[status]]
        happens = sorted(when.states - {*STATES})
    else:
        names = []
        happens = sorted(when.states) or [FINALIZED if when.kind == DATASET else CREATED]
    happens += [TAGGED] if when.wanted else []
    if when.kind == MODEL and when.wanted and CREATED not in happens:
        happens.append(CREATED)
    return list(dict.fromkeys([*names, *(f"clearflow.{when.kind}.{w}" for w in happens)]))


def metric_key(group: str, name: str) -> str:
    """What events of a metric are labelled with, of the trigger that has asked for them."""
    return slug(f"{group} {name}")


# -- whether it fires -------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """Something that happened to a thing, and the thing as it is then.

    `what` is a word such as tagged, published or completed; `changed` are the tags that came;
    `trigger` is the one for which a metric was told, with its `value`.
    """

    kind: str
    what: str
    id: str
    name: str
    project: str
    tags: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    status: str = ""
    by: str = ""
    task: str | None = None
    trigger: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, kind: str, what: str, payload: Mapping[str, Any]) -> Fact:
        """From the payload of an event of ours."""
        said = dict(payload)
        found = {key: str(said.pop(key, None) or "") for key in ("id", "name", "project", "by")}
        return cls(
            kind,
            what,
            **found,
            tags=tuple(said.pop("tags", None) or ()),
            changed=tuple(said.pop("changed", None) or ()),
            status=str(said.pop("status", None) or ""),
            task=said.pop("task", None) or None,
            trigger=str(said.pop("trigger", None) or ""),
            more=said,
        )

    @property
    def states(self) -> frozenset[str]:
        """The statuses that it has; that a task is published or archived, its tags say."""
        ends = {PUBLISHED, ARCHIVED} & {*self.tags} if self.kind == TASK else set[str]()
        return frozenset({self.status, *ends})

    @property
    def words(self) -> str:
        """For people."""
        version = f" {self.more['version']}" if self.more.get("version") else ""
        if self.what == METRIC:
            series = "/".join(str(self.more.get(key) or "") for key in ("metric", "variant"))
            done = f"has {series} {self.more.get('value')}"
        else:
            tags = f" {', '.join(map(repr, self.changed))}" if self.what == TAGGED else ""
            done = f"was {self.what}{tags}" if self.what not in STATES else f"is {self.what}"
        whose = f" by {self.by}" if self.by and self.what not in {*STATES, METRIC} else ""
        return f"the {self.kind} {self.project}/{self.name}{version} {done}{whose}"


def misfit(when: When, fact: Fact) -> str | None:
    """Why a trigger does not fire for what happened; None: it does."""
    if when.kind != fact.kind:
        return f"it is a {fact.kind}"
    if when.project is not None and fact.project != when.project:
        return f"it is in the project {fact.project!r}"
    if when.name is not None and not re.search(when.name, fact.name):
        return f"its name is {fact.name!r}"
    if missing := [tag for tag in when.all_tags if tag not in fact.tags]:
        return f"it is not tagged {', '.join(map(repr, missing))}"
    if when.any_tags and not {*when.any_tags} & {*fact.tags}:
        return f"it is tagged none of {', '.join(map(repr, when.any_tags))}"
    if when.metric is not None:
        return None if fact.what == METRIC else f"it was {fact.what}"
    if fact.what in {TAGGED, CREATED} and when.wanted:
        return _misfit_tagged(when, fact)
    happens = when.states or {FINALIZED if when.kind == DATASET else CREATED}
    if when.kind == TASK and not when.states:
        happens = frozenset[str]()
    return None if fact.what in _widened(happens) else f"it was {fact.what}"


def _misfit_tagged(when: When, fact: Fact) -> str | None:
    if not when.wanted & {*fact.changed}:
        return f"it had these tags before; it got {', '.join(fact.changed) or 'none'}"
    states = when.states
    if when.kind == DATASET and not states:
        # What is not finalized nobody can get. It fires when it is.
        states = frozenset({FINALIZED, PUBLISHED})
    if states and not _widened(states) & fact.states:
        return f"it is {fact.status}"
    return None


def _widened(states: Collection[str]) -> frozenset[str]:
    """To whoever waits for failed tasks, one that crashed is one."""
    return frozenset({*states, "crashed"} if "failed" in states else states)


def status_of(state_name: str) -> str | None:
    """The status that a state of this name is; None for one that no trigger waits for."""
    for status, names in reversed(list(STATES.items())):
        if state_name in names:
            return status
    return None


# -- what may be said about it ----------------------------------------------------------------

_ABOUT = ("id", "name", "project", "tags", "changed", "status", "by", "task")
_MORE: Mapping[str, tuple[str, ...]] = {
    DATASET: ("version",),
    MODEL: (),
    TASK: ("url", "metric", "variant", "value", "iteration", "parameters."),
}


def known(kind: str) -> dict[str, Sequence[str]]:
    """What templates of a trigger may refer to, as `templates.check` takes it."""
    return {
        kind: (*_ABOUT, *_MORE.get(kind, ())),
        "trigger": ("name", "scheduler", "project"),
        "event": ("id", "name", "time"),
    }


def context(fact: Fact) -> dict[str, Any]:
    """What `${dataset.…}`, `${model.…}` or `${task.…}` stands for; what it has not is nothing."""
    about = {
        "id": fact.id,
        "name": fact.name,
        "project": fact.project,
        "tags": list(fact.tags),
        "changed": list(fact.changed),
        "status": fact.status,
        "by": fact.by,
        "task": fact.task,
    }
    more = {name: fact.more.get(name) for name in _MORE[fact.kind] if not name.endswith(".")}
    return {**about, **more}
