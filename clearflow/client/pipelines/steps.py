"""The steps of a pipeline as its program describes them, and as they are sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clearflow.client.task import Task
from clearflow.errors import Usage
from clearflow.words import references
from clearflow.words.graph import Node
from clearflow.words.parameters import nested, plain

_FIELDS = {
    "container.image": "image",
    "container.setup_shell_script": "setup_script",
    "script.requirements.pip": "requirements",
}
_CODE = {
    "script.repository": "repository",
    "script.branch": "branch",
    "script.version_num": "commit",
}
_JOB = (
    "cpus", "env", "gpus", "grace_seconds", "image", "max_attempts", "memory_mb",
    "python_version", "requirements", "runtime", "setup_script",
)  # fmt: skip
CONTINUE = (
    "continue_on_fail",
    "continue_on_abort",
    "skip_children_on_fail",
    "skip_children_on_abort",
)


@dataclass
class Step(Node):
    """One step: what it runs, with which parameters, and where its task is."""

    base_task_id: str | None = None
    selector: Mapping[str, Any] | None = None
    function: Callable[..., Any] | None = None
    returns: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    configurations: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    project: str | None = None
    tags: Sequence[str] = ()
    time_limit: float | None = None
    cache: bool = False
    clone: bool = True
    monitor_metrics: Sequence[Any] = ()
    monitor_artifacts: Sequence[Any] = ()
    retry: Callable[..., bool] | None = None
    pre_execute: Callable[..., Any] | None = None
    post_execute: Callable[..., Any] | None = None
    status_change: Callable[..., Any] | None = None

    executed: str | None = None  # the id of its task
    node: str | None = None  # in the graph
    earlier: int = 0  # tries before somebody queued the pipeline again
    reason: str = ""
    late: bool = False  # it was aborted because it took too long

    def told(
        self,
        pre_execute: Callable[..., Any] | None,
        post_execute: Callable[..., Any] | None,
        status_change: Callable[..., Any] | None,
    ) -> None:
        """Who is called when something happens to it."""
        self.pre_execute, self.post_execute = pre_execute, post_execute
        self.status_change = status_change

    def shown(self, metrics: Sequence[Any] | None, artifacts: Sequence[Any] | None) -> None:
        """What the pipeline shows of it. Raises Usage."""
        self.monitor_metrics, self.monitor_artifacts = metrics or (), artifacts or ()
        pairs(self.monitor_metrics)

    @property
    def job(self) -> Task | None:
        """Its task; None before it has one."""
        return None if self.executed is None else Task(self.executed, self.name)

    task = job

    @property
    def skip_job(self) -> bool:
        return self.status == "skipped"

    def refers_to(self) -> list[str]:
        """The steps that its parameters refer to."""
        return references.steps_of(self.said)

    @property
    def said(self) -> list[Mapping[str, Any]]:
        """All that may have references in it."""
        return [self.parameters, self.configurations, self.variables, self.origin]


def pairs(asked: Sequence[Any]) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Which scalars go where: (title, series), or two of these. Raises Usage."""
    found = []
    for each in asked:
        source, target = each if len(each) == 2 and not isinstance(each[0], str) else (each, each)
        if len(source) != 2 or len(target) != 2:
            raise Usage(f"a metric is a title and a series, and not {each!r}")
        found.append(((source[0], source[1]), (target[0], target[1])))
    return found


def sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by section, of flat names such as `Args/lr` or of sections already."""
    grouped: dict[str, Any] = {}
    single: dict[str, Any] = {}
    for name, value in values.items():
        if "/" not in name and isinstance(value, Mapping):
            grouped[name] = plain(value)
        else:
            single[name] = plain(value)
    for section, inner in nested(single).items():
        grouped[section] = {**grouped.get(section, {}), **inner}
    return grouped


def variables_of(
    overrides: Mapping[str, Any] | None,
    packages: Sequence[str] | str | None = None,
    docker: str | None = None,
) -> dict[str, Any]:
    """What a step asks of its machine and environment, as job variables. Raises Usage."""
    found: dict[str, Any] = {}
    if packages is not None:
        lines = [packages] if isinstance(packages, str) else list(packages)
        found["requirements"] = lines
    if docker is not None:
        found["image"] = docker
    for name, value in (overrides or {}).items():
        if name in _CODE:
            continue
        key = _FIELDS.get(name, name)
        if key not in _JOB:
            known = ", ".join([*_FIELDS, *_CODE, *_JOB])
            raise Usage(f"a step cannot override {name!r}", hint=f"it can: {known}")
        found[key] = plain(value)
    return found


def origin_of(
    overrides: Mapping[str, Any] | None,
    repository: str | None = None,
    branch: str | None = None,
    commit: str | None = None,
) -> dict[str, Any]:
    """Where the code of a step comes from, if not from where it would."""
    found = {"repository": repository, "branch": branch, "commit": commit}
    found.update({_CODE[name]: v for name, v in (overrides or {}).items() if name in _CODE})
    return {name: value for name, value in found.items() if value is not None}


def behaviour(
    continue_on_fail: bool, continue_behaviour: Mapping[str, bool] | None
) -> dict[str, bool]:
    """What the failure of a step means, as the fields of it. Raises Usage."""
    said = dict(continue_behaviour or {})
    for name in said:
        if name not in CONTINUE:
            raise Usage(f"{name!r} is no continue behaviour", hint=f"one of {', '.join(CONTINUE)}")
    if continue_on_fail:
        said.setdefault("continue_on_fail", True)
    return {name: bool(value) for name, value in said.items()}


def retries_of(
    retry: int | Callable[..., bool] | None,
) -> tuple[int, Callable[..., bool] | None]:
    """How often a step is tried again, or who decides on it."""
    if callable(retry):
        return sys.maxsize, retry
    return int(retry or 0), None
