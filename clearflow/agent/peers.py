"""Who else serves a queue: from the records of agents, and from what they tell as they come and go.

An agent only lets those go first after an enqueue who could take the task. One too many in the
list costs a turn, one too few an extra request to the server: it need not be exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from clearflow import agents
from clearflow._prefect import events
from clearflow._prefect.events import Event
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError
from clearflow.words.names import slug

CAME, LEFT = "clearflow.agent.came", "clearflow.agent.left"
MANY = 32
"""With so many peers nobody is told: everybody would hear of everybody, and of 200 that know only
those that came before them no more than ln(200/32) + 1 times the first few ask."""


class Peers:
    """The other agents of a pool, with the queues they serve."""

    def __init__(self, api: Api, pool: str, name: str) -> None:
        self._api, self._pool, self._name = api, pool, name
        self._queues: dict[str, Collection[str]] = {}

    def serving(self, queue: str) -> list[str]:
        """Their names."""
        return [name for name, queues in self._queues.items() if queue in queues]

    async def look(self, online: Collection[str]) -> None:
        """Find out anew, of those that are heard of."""
        found = await agents.records(self._api)
        self._queues = {
            r.name: r.queues for r in found if r.pool == self._pool and r.name in online
        }
        self._queues.pop(self._name, None)

    def keep(self, online: Collection[str]) -> None:
        """Forget those that are heard of no more."""
        self._queues = {n: queues for n, queues in self._queues.items() if n in online}

    def hear(self, event: Event) -> None:
        """Somebody came or left."""
        name = str(event.payload.get("agent"))
        if event.name == LEFT:
            self._queues.pop(name, None)
        elif name != self._name:
            self._queues[name] = tuple(event.payload.get("queues") or ())

    async def tell(self, what: str, pool_id: str, queues: Collection[str]) -> None:
        """Tell the others that this agent has come, or leaves, unless there are many."""
        if len(self._queues) >= MANY:
            return
        with contextlib.suppress(ClearflowError):
            await events.emit(
                self._api,
                what,
                f"clearflow.agent.{slug(self._name)}",
                related={f"prefect.work-pool.{pool_id}": "work-pool"},
                payload={"agent": self._name, "queues": list(queues)},
            )
