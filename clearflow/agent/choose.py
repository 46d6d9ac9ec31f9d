"""Which queue to ask next, and how soon to ask after an enqueue: pure decisions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from clearflow.words.names import rendezvous

PER_AGENT = 0.01  # seconds between two agents that are woken by one enqueue
# Events come before the commit they speak of, on a busy server by seconds: ask again after these.
AGAIN = (0.2, 1.0, 4.0, 15.0)
SWEEPERS = 5


def order(queues: Sequence[str], fairness: bool, last: str | None) -> list[str]:
    """The queues in the order in which to ask: by preference, or in turn after the last one."""
    if not fairness or last is None or last not in queues:
        return list(queues)
    at = list(queues).index(last) + 1
    return [*queues[at:], *queues[:at]]


def delay(agent: str, key: str, agents: int) -> float:
    """How long an agent lets others go first after an enqueue, in seconds.

    One enqueue must not make every idle agent ask. Agents spread over time by their distance from
    the task (rendezvous hashing), about PER_AGENT apart, and one that sees the task taken before
    its turn does not ask. An agent alone does not wait.
    """
    if agents <= 1:
        return 0.0
    return rendezvous(agent, key) * agents * PER_AGENT


def sweeps_often(agent: str, pool: str, online: Collection[str]) -> bool:
    """Whether this agent is among the few that look for lost tasks at every heartbeat."""
    nearest = sorted({*online, agent}, key=lambda a: rendezvous(a, f"sweep:{pool}"))
    return agent in nearest[:SWEEPERS]
