"""Which queue to ask next, and how soon to ask after an enqueue: pure decisions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from clearflow.words.names import rendezvous

FIRST = 4  # agents whose turn comes at once
PER_AGENT = 0.02  # seconds between two agents that are woken by one enqueue
PAUSE = 0.6  # seconds in which one of the first has told that it has the task, on a busy server too
MANY = 80  # agents up to which that is so: the server tells each of them by itself
LAST_TURN = 3.0  # seconds over which the turns of all are spread at most
# Events come before the commit they speak of, on a busy server by seconds: ask again after these.
AGAIN = (0.2, 1.0, 4.0, 15.0)
SWEEPERS = 5


def order(queues: Sequence[str], fairness: bool, last: str | None) -> list[str]:
    """The queues in the order in which to ask: by preference, or in turn after the last one."""
    if not fairness or last is None or last not in queues:
        return list(queues)
    at = list(queues).index(last) + 1
    return [*queues[at:], *queues[:at]]


def delay(agent: str, key: str, peers: Collection[str]) -> float:
    """How long an agent lets its peers go first after an enqueue, in seconds.

    One enqueue must not make every idle agent ask. Agents take turns in the order of their
    distance from the task (rendezvous hashing), and one that sees the task taken before its turn
    does not ask. The nearest does not wait. A peer that has ended, or cannot take this task, lets
    its turn pass, so a few have theirs at once. The rest come after a pause, ever more of them: on
    a server so busy that nobody has been told yet, few more ask it.
    """
    own = rendezvous(agent, key)
    nearer = sum(1 for peer in peers if peer != agent and rendezvous(peer, key) < own)
    if nearer < FIRST:
        return nearer * PER_AGENT
    pause = min(PAUSE * max(1.0, len(peers) / MANY), LAST_TURN / 2)
    spread = min(PER_AGENT * len(peers), LAST_TURN)
    return pause + spread * math.log(1 + nearer - FIRST) / math.log(1 + len(peers))


def sweeps_often(agent: str, pool: str, online: Collection[str]) -> bool:
    """Whether this agent is among the few that look for lost tasks at every heartbeat."""
    nearest = sorted({*online, agent}, key=lambda a: rendezvous(a, f"sweep:{pool}"))
    return agent in nearest[:SWEEPERS]
