"""What the server says about runs, queues and agents, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from clearflow import clock
from clearflow.words.containers import allowed
from clearflow.words.names import ASKS, shown
from clearflow.words.notes import Note

SCHEDULED, PENDING, RUNNING = "SCHEDULED", "PENDING", "RUNNING"
CANCELLING, CANCELLED, PAUSED = "CANCELLING", "CANCELLED", "PAUSED"
COMPLETED, FAILED, CRASHED = "COMPLETED", "FAILED", "CRASHED"
FINAL = frozenset({COMPLETED, FAILED, CRASHED, CANCELLED})
ACTIVE = frozenset({PENDING, RUNNING, CANCELLING})

# The status words people see, in the order in which a listing shows them.
STATUSES = (
    "draft", "scheduled", "queued", "starting", "running", "retrying", "paused", "aborting",
    "completed", "failed", "crashed", "aborted",
)  # fmt: skip

# The server's time is known to about a second: what is due that soon counts as due.
_SOON = timedelta(seconds=2)


def _moment(text: str | None) -> datetime | None:
    return clock.parse(text) if text else None


@dataclass(frozen=True, slots=True)
class State:
    """One state of a run, as the server keeps it."""

    type: str
    name: str
    message: str = ""
    at: datetime | None = None
    place: datetime | None = None
    id: str = ""
    data: Any = None

    @property
    def note(self) -> Note:
        return Note.parse(self.message)

    @property
    def final(self) -> bool:
        return self.type in FINAL

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> State:
        details = data.get("state_details") or {}
        return cls(
            type=data["type"],
            name=data.get("name") or data["type"].title(),
            message=data.get("message") or "",
            at=_moment(data.get("timestamp")),
            place=_moment(details.get("scheduled_time")),
            id=str(data.get("id") or ""),
            data=data.get("data"),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A flow run: one task, or one of the runs a task had."""

    id: str
    name: str
    state: State | None
    flow_id: str = ""
    deployment_id: str | None = None
    pool: str | None = None
    queue: str | None = None
    queue_id: str | None = None
    place: datetime | None = None
    expected: datetime | None = None
    created: datetime | None = None
    updated: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    tags: tuple[str, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    run_count: int = 0
    task_run: str | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Run:
        state = data.get("state")
        return cls(
            id=str(data["id"]),
            name=data.get("name") or "",
            state=State.parse(state) if state else None,
            flow_id=str(data.get("flow_id") or ""),
            deployment_id=_text(data.get("deployment_id")),
            pool=data.get("work_pool_name"),
            queue=data.get("work_queue_name"),
            queue_id=_text(data.get("work_queue_id")),
            place=_moment(data.get("next_scheduled_start_time")),
            expected=_moment(data.get("expected_start_time")),
            created=_moment(data.get("created")),
            updated=_moment(data.get("updated")),
            started=_moment(data.get("start_time")),
            ended=_moment(data.get("end_time")),
            tags=tuple(data.get("tags") or ()),
            labels=data.get("labels") or {},
            parameters=data.get("parameters") or {},
            job_variables={
                **(data.get("job_variables") or {}),
                **json.loads((data.get("labels") or {}).get(ASKS) or "{}"),
            },
            policy=data.get("empirical_policy") or {},
            idempotency_key=data.get("idempotency_key"),
            run_count=data.get("run_count") or 0,
            task_run=_text(data.get("parent_task_run_id")),
        )

    @property
    def task_id(self) -> str:
        """The id that stays with the task wherever it goes: that of its first run."""
        return self.tagged("task") or self.id

    @property
    def part(self) -> bool:
        """Whether it is a part of another task: a flow that a flow has called.

        The step of a pipeline, and what `run_deployment` starts, stand in queues as tasks do.
        """
        return self.task_run is not None and self.deployment_id is None and self.queue_id is None

    @property
    def project(self) -> str | None:
        return self.tagged("project")

    @property
    def owner(self) -> str | None:
        return self.tagged("user")

    def tagged(self, key: str) -> str | None:
        """The value of the tag `key:value`, if there is one."""
        prefix = f"{key}:"
        return next((t[len(prefix) :] for t in self.tags if t.startswith(prefix)), None)

    @property
    def note(self) -> Note:
        return self.state.note if self.state else Note()

    @property
    def queue_shown(self) -> str | None:
        return shown(self.queue) if self.queue else None

    @property
    def retrying_in_process(self) -> bool:
        """Between two tries of a flow with retries: SCHEDULED, but its process still lives."""
        return (
            self.state is not None
            and self.state.type == SCHEDULED
            and self.policy.get("retry_type") == "in_process"
        )

    def later(self, now: datetime) -> bool:
        """Whether it is planned for a later time; `now` is the server's."""
        place = self.place or (self.state.place if self.state else None)
        return place is not None and place > now + _SOON

    def status(self, now: datetime) -> str:
        """One of STATUSES; `now` is the server's time."""
        if self.state is None:
            return "draft"
        match self.state.type:
            case "SCHEDULED":
                if self.retrying_in_process:
                    return "retrying"
                return "scheduled" if self.later(now) else "queued"
            case "PENDING":
                # Somebody who moves a task holds it for a moment; to its owner it is queued.
                return "starting" if self.note.agent else "queued"
            case "PAUSED":
                return "draft" if self.state.name == "Draft" else "paused"
            case "RUNNING":
                return "running"
            case "CANCELLING":
                return "aborting"
            case "CANCELLED":
                return "aborted"
            case other:
                return other.lower()


def _text(value: Any) -> str | None:
    return str(value) if value else None


@dataclass(frozen=True, slots=True)
class Queue:
    """A work queue of a clearflow pool."""

    id: str
    name: str
    pool: str
    priority: int = 1
    paused: bool = False
    limit: int | None = None
    description: str = ""
    last_polled: datetime | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any], pool: str) -> Queue:
        return cls(
            id=str(data["id"]),
            name=shown(data["name"]),
            pool=data.get("work_pool_name") or pool,
            priority=data.get("priority") or 1,
            paused=bool(data.get("is_paused")),
            limit=data.get("concurrency_limit"),
            description=data.get("description") or "",
            last_polled=_moment(data.get("last_polled")),
        )


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task asks of a machine. `says_gpus`: it says how many, be it none."""

    gpus: int = 0
    says_gpus: bool = False
    cpus: float = 0.0
    memory_mb: int = 0
    runtime: str = ""  # any
    image: str = ""

    @classmethod
    def parse(cls, job: Mapping[str, Any]) -> Needs:
        """From job variables; missing or empty ones ask for nothing."""
        return cls(
            gpus=int(job.get("gpus") or 0),
            says_gpus=job.get("gpus") is not None,
            cpus=float(job.get("cpus") or 0),
            memory_mb=int(job.get("memory_mb") or 0),
            # Who names an image wants a container.
            runtime=str(job.get("runtime") or ("docker" if job.get("image") else "")),
            image=str(job.get("image") or ""),
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """What an agent has to give: its slots, and what it may hand to tasks.

    `images` are patterns of those that it allows; none for any.
    """

    slots: int = 1
    gpus: tuple[str, ...] = ()
    cpus: float = 1.0
    memory_mb: int = 0
    runtimes: Sequence[str] = ("process",)
    images: Sequence[str] = ()

    def has_runtime(self, needs: Needs) -> bool:
        """Whether it runs tasks where this one wants to run."""
        return not needs.runtime or needs.runtime in self.runtimes

    def allows(self, needs: Needs) -> bool:
        """Whether it runs the image that the task wants."""
        return needs.runtime != "docker" or not needs.image or allowed(needs.image, self.images)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker record: how the server knows that an agent lives."""

    name: str
    heartbeat: datetime | None
    online: bool
    interval: float | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Worker:
        return cls(
            name=data["name"],
            heartbeat=_moment(data.get("last_heartbeat_time")),
            online=data.get("status") == "ONLINE",
            interval=data.get("heartbeat_interval_seconds"),
        )
