"""What is worth telling somebody, and in which words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from clearflow import clock
from clearflow._prefect.events import Event
from clearflow.agents import AgentView
from clearflow.queues.records import Overview
from clearflow.words import lifecycle, losing

COMPLETED, FAILED, ABORTED, CRASHED, LOST = "completed", "failed", "aborted", "crashed", "lost"
WAITING, DOWN, BACK, IDLE, BUDGET = "waiting", "agent down", "agent back", "idle GPU", "budget"

OF_TASKS = (COMPLETED, FAILED, ABORTED, CRASHED, LOST)
BUDGET_REACHED = "clearflow.autoscaler.budget"

_KINDS = {
    "prefect.flow-run.Completed": COMPLETED,
    "prefect.flow-run.Failed": FAILED,
    "prefect.flow-run.TimedOut": FAILED,
    "prefect.flow-run.Cancelled": ABORTED,
    "prefect.flow-run.Crashed": CRASHED,
    "prefect.flow-run.Queued": LOST,
    BUDGET_REACHED: BUDGET,
}
TOGETHER = 5
"""More alerts than this are told in one message."""


@dataclass(frozen=True)
class Alert:
    """Something to tell: `text` says why, `task` is an id where it is about a task."""

    kind: str
    name: str
    text: str = ""
    project: str | None = None
    user: str | None = None
    url: str | None = None
    task: str | None = None
    run: str | None = None
    seconds: float | None = None

    def dump(self) -> dict[str, Any]:
        return asdict(self)


def names_of(kinds: Iterable[str]) -> list[str]:
    """The names of the events that tell of these kinds of alerts."""
    wanted = set(kinds)
    return [name for name, kind in _KINDS.items() if kind in wanted]


def kind_of(event: Event) -> str | None:
    """What an event tells of; None for nothing that anybody is told of."""
    kind = _KINDS.get(event.name)
    if kind == LOST:
        # Tasks are queued for many reasons.
        state = event.state
        if state is None or not losing.tells_of_loss(state.note):
            return None
    return kind


@dataclass(frozen=True)
class Wanted:
    """Which tasks somebody wants to hear of; what is empty asks for nothing."""

    kinds: Sequence[str] = (FAILED, CRASHED, LOST)
    projects: Sequence[str] = ()
    users: Sequence[str] = ()
    exclude_users: Sequence[str] = ()
    tags: Sequence[str] = ()

    def fits(self, kind: str, seen: Mapping[str, Any]) -> bool:
        """Whether it wants to hear this of a task, as `describe` sees it."""
        return (
            kind in self.kinds
            and (not self.projects or seen["project"] in self.projects)
            and (not self.users or seen["user"] in self.users)
            and seen["user"] not in self.exclude_users
            and (not self.tags or bool(set(self.tags) & set(seen["tags"])))
        )


def about(kind: str, seen: Mapping[str, Any], reason: str = "") -> Alert:
    """An alert about a task, as `describe` sees it."""
    seconds = None
    if seen["started"] and seen["ended"]:
        seconds = (clock.parse(seen["ended"]) - clock.parse(seen["started"])).total_seconds()
    return Alert(
        kind,
        seen["name"],
        reason or seen["reason"],
        project=seen["project"],
        user=seen["user"],
        url=seen["url"],
        task=seen["id"],
        run=seen["run"],
        seconds=seconds,
    )


# -- what lasts ------------------------------------------------------------------------------


@dataclass
class Standing:
    """What is the matter now: by a key that stays as long as it lasts."""

    alerts: dict[str, Alert] = field(default_factory=dict)
    idle: dict[str, str] = field(default_factory=dict)
    """Since when agents with GPUs have had nothing to do."""

    def news(self, before: Iterable[str]) -> list[Alert]:
        """What was not the matter before; and agents that are back."""
        known = set(before)
        found = [alert for key, alert in self.alerts.items() if key not in known]
        gone = known - set(self.alerts)
        back = [key.partition(":")[2] for key in gone if key.startswith(f"{DOWN}:")]
        return found + [Alert(BACK, name) for name in sorted(back)]


def standing(
    now: datetime,
    queues: Sequence[Overview],
    agents: Sequence[AgentView],
    *,
    idle_before: Mapping[str, str],
    wait_minutes: float | None,
    agent_down: bool,
    idle_minutes: float | None,
) -> Standing:
    """What is the matter at this moment; `idle_before` is what was returned the last time."""
    found = Standing()
    if wait_minutes is not None:
        for each in queues:
            since = lifecycle.since(each.head) if each.head else None
            if since is not None and now - since > timedelta(minutes=wait_minutes):
                minutes = (now - since).total_seconds() / 60
                found.alerts[f"{WAITING}:{each.queue.name}"] = Alert(
                    WAITING,
                    each.queue.name,
                    f"the next of {each.waiting} tasks has been waiting for {minutes:.0f} min",
                )
    for view in agents:
        name = view.record.name
        if agent_down and not view.online:
            busy = len(view.record.tasks)
            text = f"it had {busy} tasks" if busy != 1 else "it had one task"
            found.alerts[f"{DOWN}:{name}"] = Alert(DOWN, name, text if busy else "it had no task")
        if idle_minutes is None or not view.online or not view.record.gpus or view.record.tasks:
            continue
        since_text = idle_before.get(name, now.isoformat())
        found.idle[name] = since_text
        minutes = (now - clock.parse(since_text)).total_seconds() / 60
        if minutes > idle_minutes:
            gpus = len(view.record.gpus)
            found.alerts[f"{IDLE}:{name}"] = Alert(
                IDLE, name, f"{gpus} GPU{'s' * (gpus != 1)} without a task for {minutes:.0f} min"
            )
    return found


# -- words -----------------------------------------------------------------------------------


def headline(alerts: Sequence[Alert], prefix: str = "") -> str:
    """One line for all of them."""
    if len(alerts) == 1:
        text = _sentence(alerts[0])
    else:
        counts = Counter(alert.kind for alert in alerts)
        text = ", ".join(f"{number} × {kind}" for kind, number in counts.most_common())
    return f"{prefix} {text}".strip()


def _sentence(alert: Alert) -> str:
    if alert.kind in OF_TASKS:
        where = f"{alert.project} · " if alert.project else ""
        word = "lost its machine and waits again" if alert.kind == LOST else alert.kind
        return f"{where}{alert.name}: {word}"
    match alert.kind:
        case "waiting":
            return f"queue {alert.name}: {alert.text}"
        case "agent down":
            return f"agent {alert.name} is down"
        case "agent back":
            return f"agent {alert.name} is back"
        case "idle GPU":
            return f"agent {alert.name}: {alert.text}"
        case _:
            return f"{alert.kind}: {alert.name}"


def details(alert: Alert) -> str:
    """What else there is to say of one, in a line."""
    words = [alert.text] if alert.text and alert.kind not in {WAITING, IDLE} else []
    if alert.seconds is not None and alert.seconds >= 1:
        words.append(f"after {clock.duration(alert.seconds)}")
    if alert.user:
        words.append(f"by {alert.user}")
    return " · ".join(words)
