"""Who else could take a task: from the records of agents, what they tell, and whose tasks run.

An agent only lets those go first after an enqueue who could take the task. One too many in the
list costs a turn, one too few an extra request to the server: it need not be exact.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from clearflow import agents
from clearflow._prefect import events
from clearflow._prefect.events import Event
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError
from clearflow.words.models import Run
from clearflow.words.names import slug

CAME, LEFT = "clearflow.agent.came", "clearflow.agent.left"
MANY = 200
"""With so many peers nobody is told: everybody would hear of everybody."""


@dataclass(frozen=True)
class _Peer:
    queues: Collection[str]
    slots: int


class Peers:
    """The other agents of a pool: the queues they serve, and the runs they have."""

    def __init__(self, api: Api, pool: str, name: str) -> None:
        self._api, self._pool, self._name = api, pool, name
        self._peers: dict[str, _Peer] = {}
        self._holders: dict[str, str] = {}  # who has a run

    def serving(self, queue: str) -> list[str]:
        """The names of those that serve a queue and have a slot free."""
        used = Counter(self._holders.values())
        return [n for n, p in self._peers.items() if queue in p.queues and used[n] < p.slots]

    async def look(self, online: Collection[str], active: Iterable[Run]) -> None:
        """Find out anew, of those that are heard of, and of the runs that somebody has."""
        found = await agents.records(self._api)
        self._peers = {
            r.name: _Peer(r.queues, r.slots)
            for r in found
            if r.pool == self._pool and r.name in online and r.name != self._name
        }
        self._holders = {}
        for run in active:
            self.took(run.id, run.note.agent)

    def took(self, run_id: str, name: str | None) -> None:
        """Somebody has this run."""
        if name in self._peers:
            self._holders[run_id] = name

    def let_go(self, run_id: str) -> None:
        """Nobody has this run any more."""
        self._holders.pop(run_id, None)

    def keep(self, online: Collection[str]) -> None:
        """Forget those that are heard of no more."""
        self._peers = {n: peer for n, peer in self._peers.items() if n in online}
        self._holders = {id: name for id, name in self._holders.items() if name in online}

    def hear(self, event: Event) -> None:
        """Somebody came or left."""
        name = str(event.payload.get("agent"))
        if event.name == LEFT:
            self._peers.pop(name, None)
        elif name != self._name:
            queues, slots = event.payload.get("queues"), event.payload.get("slots")
            self._peers[name] = _Peer(tuple(queues or ()), int(slots or 1))

    async def tell(
        self, what: str, pool_id: str, queues: Collection[str] = (), slots: int = 1
    ) -> None:
        """Tell the others that this agent has come, or leaves, unless there are many."""
        if len(self._peers) >= MANY:
            return
        with contextlib.suppress(ClearflowError):
            await events.emit(
                self._api,
                what,
                f"clearflow.agent.{slug(self._name)}",
                related={f"prefect.work-pool.{pool_id}": "work-pool"},
                payload={"agent": self._name, "queues": list(queues), "slots": slots},
            )
