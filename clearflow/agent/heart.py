"""The agent's heartbeat: it tells the server that this machine lives, and its tasks that it did.

Also here, because it follows from silence: finding the tasks of agents that are silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection

from clearflow._prefect import pools, runs
from clearflow._prefect.http import Api
from clearflow.agent import choose
from clearflow.agent.peers import Peers
from clearflow.errors import ClearflowError
from clearflow.queues import moves
from clearflow.settings import settings
from clearflow.tasks import loss


class Heart:
    """Heartbeats and sweeps of one agent.

    `mine()` gives the tokens of the agent's claims, `beaten(sent)` is told of every heartbeat that
    arrived, with the monotonic time at which it was sent.
    """

    def __init__(
        self,
        api: Api,
        pool: str,
        name: str,
        mine: Callable[[], Collection[str]],
        beaten: Callable[[float], None],
        peers: Peers,
    ) -> None:
        self._api, self._pool, self._name = api, pool, name
        self._mine, self._beaten, self._peers = mine, beaten, peers
        self._quicken = asyncio.Event()
        self._no_sweep_before = 0.0
        self.last_beat = 0.0
        self._jitter = 1.0
        self.others: set[str] = set()  # runs, or claims, that others have
        self.unnamed = False  # Prefect has named a waiting run itself
        self.online: Collection[str] = (name,)

    async def beat(self) -> None:
        sent = time.monotonic()
        interval = settings().heartbeat if self._mine() else settings().idle_ask
        await pools.heartbeat(self._api, self._pool, self._name, interval)
        self.last_beat = sent
        self._jitter = random.uniform(0.9, 1.0)
        self._beaten(sent)

    def quicken(self) -> None:
        """A task has come: from now on the server has to hear of this machine often.

        The claim itself is a sign of life, and a task that starts has better use for the server.
        """
        asyncio.get_running_loop().call_later(settings().heartbeat / 10, self._quicken.set)

    def _due(self) -> float:
        """When the next heartbeat has to be sent, by what this agent has now."""
        busy = min(settings().heartbeat, settings().silence / 3)
        every = busy if self._mine() else settings().idle_ask
        return self.last_beat + every * self._jitter

    async def keep_beating(self) -> None:
        while True:
            wait = self._due() - time.monotonic()
            if wait <= 0:
                await self.beat()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._quicken.wait()
            self._quicken.clear()

    def outage_over(self) -> None:
        """The server answers again: everybody else needs a moment to be heard, too."""
        self._no_sweep_before = time.monotonic() + settings().outage_grace

    def _may_lose(self) -> bool:
        """Whether silence of others is theirs, and not the server's."""
        return time.monotonic() >= self._no_sweep_before

    async def keep_sweeping(self) -> None:
        """Look for lost tasks while others have tasks: a few agents often, the rest seldom.

        The more there are, the more seldom each: all together as often as a few dozen.
        """
        turn = random.randrange(1000)
        while True:
            every = min(settings().heartbeat, settings().silence / 3)
            await asyncio.sleep(every * random.uniform(0.8, 1.2))
            turn += 1
            often = choose.sweeps_often(self._name, self._pool, self.online)
            if not often and turn % max(6, len(self.online) // 4):
                continue
            with contextlib.suppress(ClearflowError):
                if self.unnamed:
                    self.unnamed = False
                    await self._rename()
                if self.others and self._may_lose():
                    await self.sweep()

    async def sweep(self) -> None:
        await self.count_agents()
        active = await loss.sweep(
            self._api, self._pool, by=self._name, mine=self._mine(), may_lose=self._may_lose
        )
        self.others &= set(active)

    async def _rename(self) -> None:
        """Name due runs that Prefect named itself, before its late-run service floods SQLite."""
        where = {
            "state": {"name": {"any_": ["Scheduled", "Late"]}},
            "next_scheduled_start_time": {"before_": self._api.clock.now().isoformat()},
        }
        due = [r async for r in runs.find(self._api, where, pool=self._pool)]
        for run in due:
            await moves.rename(self._api, run, self._name)

    async def count_agents(self) -> None:
        workers = await pools.workers(self._api, self._pool)
        self.online = {w.name for w in workers if w.online}
        self._peers.keep(self.online)
