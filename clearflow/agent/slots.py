"""What an agent has free, and which of the tasks on offer fits it: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from clearflow.words.models import Machine, Needs

RESERVE_AFTER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Used:
    """What one running task holds."""

    needs: Needs
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """A task on offer: what it needs, and since when it has stood in front of others."""

    run_id: str
    needs: Needs
    passed_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Free:
    """What is left of a machine."""

    slots: int
    gpus: tuple[str, ...]
    cpus: float
    memory_mb: int

    def less(self, needs: Needs) -> Free:
        return Free(
            self.slots - 1,
            self.gpus[needs.gpus :],
            self.cpus - needs.cpus,
            self.memory_mb - needs.memory_mb,
        )

    def fits(self, needs: Needs) -> bool:
        return (
            self.slots >= 1
            and len(self.gpus) >= needs.gpus
            and self.cpus >= needs.cpus
            and self.memory_mb >= needs.memory_mb
        )


def free(machine: Machine, used: Iterable[Used]) -> Free:
    """What a machine has left beside the tasks it runs."""
    held = list(used)
    taken = {gpu for u in held for gpu in u.gpus}
    return Free(
        slots=machine.slots - len(held),
        gpus=tuple(g for g in machine.gpus if g not in taken),
        cpus=machine.cpus - sum(u.needs.cpus for u in held),
        memory_mb=machine.memory_mb - sum(u.needs.memory_mb for u in held),
    )


def could_ever_run(machine: Machine, needs: Needs) -> bool:
    """Whether the machine, empty, could run a task."""
    able = machine.has_runtime(needs) and machine.allows(needs)
    return able and free(machine, ()).fits(needs)


def choose(
    machine: Machine, used: Sequence[Used], offers: Sequence[Offer], now: datetime
) -> Offer | None:
    """The first task on offer that fits what is free; None when none does.

    A task that has been passed over for RESERVE_AFTER gets what frees up: nothing behind it is
    taken that would use what it waits for.
    """
    left = free(machine, used)
    for offer in offers:
        if not could_ever_run(machine, offer.needs):
            continue
        if left.fits(offer.needs):
            return offer
        if offer.passed_since is not None and now - offer.passed_since >= RESERVE_AFTER:
            left = left.less(offer.needs)
    return None


def pick_gpus(machine: Machine, used: Sequence[Used], needs: Needs) -> tuple[str, ...]:
    """The GPUs that a task gets for itself.

    On an agent that runs one task at a time, a task that does not say how many gets all of them.
    """
    left = free(machine, used).gpus
    return left if machine.slots == 1 and not needs.says_gpus else left[: needs.gpus]


def passed_over(
    offers: Sequence[Offer], chosen: Offer, before: Mapping[str, datetime], now: datetime
) -> dict[str, datetime]:
    """Since when each task on offer has been passed over, after `chosen` was taken."""
    found = dict(before)
    for offer in offers:
        if offer.run_id == chosen.run_id:
            break
        found.setdefault(offer.run_id, now)
    found.pop(chosen.run_id, None)
    return found
