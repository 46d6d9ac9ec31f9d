"""Why a task waits, in words: what stands between it and an agent at this moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clearflow.words.models import Machine, Needs, Queue


@dataclass(frozen=True, slots=True)
class Serving:
    """An agent as those who wait for it see it. `status` is one of its own or `offline`."""

    name: str
    queues: tuple[str, ...]
    status: str
    machine: Machine
    busy: int = 0

    @property
    def free(self) -> int:
        return max(0, self.machine.slots - self.busy)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is the same for everybody who waits in a queue."""

    queue: Queue
    active: int = 0
    pool_paused: bool = False
    pool_limit: int | None = None
    pool_active: int = 0
    agents: tuple[Serving, ...] = ()

    @property
    def serving(self) -> tuple[Serving, ...]:
        """The agents of this queue, whatever they do now."""
        return tuple(a for a in self.agents if self.queue.name in a.queues)


def why(needs: Needs, situation: Situation, ahead: int = 0, state: str = "Queued") -> str:
    """Why a task waits; `ahead` is how many stand before it, `state` the name of its state."""
    if state == "AwaitingConcurrencySlot":
        return "concurrency limit of its deployment reached"
    return (
        _closed(situation)
        or _unserved(situation)
        or _unfit(needs, [a for a in situation.serving if a.status == "running"])
        or _busy(needs, situation, ahead)
    )


def _closed(now: Situation) -> str | None:
    """Nobody may start anything here."""
    queue = now.queue
    if now.pool_paused:
        return "pool paused"
    if queue.paused:
        return "queue paused"
    if queue.limit is not None and now.active >= queue.limit:
        return f"limit reached ({now.active} of {queue.limit})"
    if now.pool_limit is not None and now.pool_active >= now.pool_limit:
        return f"limit of the pool reached ({now.pool_active} of {now.pool_limit})"
    return None


def _unserved(now: Situation) -> str | None:
    serving = now.serving
    if not serving:
        return "no agent serves this queue"
    if any(a.status == "running" for a in serving):
        return None
    states = {a.status for a in serving}
    agents = "its agent is" if len(serving) == 1 else "all its agents are"
    if len(states) == 1:
        return f"{agents} {states.pop()}"
    return f"no agent takes tasks now ({_counted(a.status for a in serving)})"


def _unfit(needs: Needs, agents: Sequence[Serving]) -> str | None:
    """No machine could run it, empty as it may be."""
    if any(_fits(needs, a.machine) for a in agents):
        return None
    if not any(a.machine.has_runtime(needs) for a in agents):
        return f"needs {needs.runtime} and no agent has it"
    if not any(a.machine.has_runtime(needs) and a.machine.allows(needs) for a in agents):
        return f"no agent allows the image {needs.image}"
    most_gpus = max(len(a.machine.gpus) for a in agents)
    if most_gpus < needs.gpus:
        return f"needs {_gpus(needs.gpus)} and no agent has {_them(needs.gpus, most_gpus)}"
    if (cpus := max(a.machine.cpus for a in agents)) < needs.cpus:
        return f"needs {needs.cpus:g} CPUs and no agent has more than {cpus:g}"
    if (memory := max(a.machine.memory_mb for a in agents)) < needs.memory_mb:
        return f"needs {needs.memory_mb} MB of memory and no agent has more than {memory}"
    return "no agent has all it needs at once"


def _busy(needs: Needs, now: Situation, ahead: int) -> str:
    able = [a for a in now.serving if a.status == "running" and _fits(needs, a.machine)]
    if not any(a.free for a in able):
        slots = sum(a.machine.slots for a in able)
        return f"agents busy ({sum(a.busy for a in able)} of {slots} slots)"
    if ahead:
        return f"behind {ahead} {'other' if ahead == 1 else 'others'}"
    return "about to start"


def _fits(needs: Needs, machine: Machine) -> bool:
    return (
        machine.has_runtime(needs)
        and machine.allows(needs)
        and len(machine.gpus) >= needs.gpus
        and machine.cpus >= needs.cpus
        and machine.memory_mb >= needs.memory_mb
        and machine.slots > 0
    )


def _gpus(count: int) -> str:
    return "a GPU" if count == 1 else f"{count} GPUs"


def _them(wanted: int, most: int) -> str:
    if wanted == 1:
        return "one"
    return "them" if most == 0 else f"more than {most}"


def _counted(words: Iterable[str]) -> str:
    listed = list(words)
    return ", ".join(f"{listed.count(w)} {w}" for w in sorted(set(listed)))
