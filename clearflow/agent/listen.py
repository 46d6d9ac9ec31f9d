"""What the server's events mean to an agent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from clearflow import agents
from clearflow._prefect import events, pools
from clearflow._prefect.events import CONNECTED, Event
from clearflow.agent import choose
from clearflow.agent.peers import CAME, LEFT
from clearflow.agents import Wish
from clearflow.errors import ClearflowError
from clearflow.tasks import loss
from clearflow.tasks.abort import abort_orphans
from clearflow.tasks.steps import controllers
from clearflow.words.models import CANCELLED, FINAL
from clearflow.words.names import BEGAN

if TYPE_CHECKING:
    from clearflow.agent.loop import Agent
# States of a running task that somebody else has written: its supervisor has to look.
_LOOK = {"SCHEDULED", "CANCELLING", "CANCELLED", "PAUSED"}


class Listener:
    """Follows the events of the agent's pool and wakes the agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._alarms: dict[str, list[asyncio.TimerHandle]] = {}
        self._connected_before = self._introduced = False

    async def listen(self) -> None:
        agent = self._agent
        resources = [f"prefect.work-pool.{agent.taker.pool['id']}"]
        names = [f"{events.FLOW_RUN}*", "clearflow.*"]
        async for event in events.stream(agent.api.connection, resources, names):
            if event is CONNECTED:
                await self._connected()
            elif event.name == agents.WISHED:
                if event.payload.get("agent") == agent.name:
                    agent.wish(Wish(event.payload["wish"]))
            elif event.name in {CAME, LEFT}:
                agent.peers.hear(event)
            elif event.name == BEGAN:
                agent.heart.others.add(str(event.payload.get("claim")))
            elif event.name == events.QUEUE_CHANGED:
                await self._look_at_queues()
                agent.stir()
            elif event.run_id is not None:
                if event.occurred is not None:
                    agent.api.clock.observe(event.occurred)
                self._run_changed(event, event.run_id)

    async def _connected(self) -> None:
        """What happened while nobody listened has to be asked for."""
        agent = self._agent
        if self._connected_before:
            agent.heart.outage_over()
        self._connected_before = True
        agent.stir()
        agent.listening.set()
        with contextlib.suppress(ClearflowError):
            wish = await agents.wished(agent.api, agent.name) or Wish.RUN
            if wish is not Wish.RUN or agent.status == "paused":
                agent.wish(wish)
            await agent.heart.count_agents()
            active = await loss.active_runs(agent.api, agent.options.pool)
            await agent.peers.look(agent.heart.online, active)
            if not self._introduced:
                words = (agent.taker.pool["id"], list(agent.taker.lines), agent.options.slots)
                await agent.peers.tell(CAME, *words)
                self._introduced = True
            agent.heart.others |= {r.id for r in active if r.note.agent != agent.name}
            if choose.sweeps_often(agent.name, agent.options.pool, agent.heart.online):
                for controller in {c for r in active for c in controllers(r.tags)}:
                    await abort_orphans(agent.api, controller, by=agent.name)

    async def _look_at_queues(self) -> None:
        agent = self._agent
        with contextlib.suppress(ClearflowError):
            for queue in await pools.queues(agent.api, agent.options.pool):
                if queue.name in agent.taker.lines:
                    agent.taker.lines[queue.name].queue = queue
            agent.taker.pool = await pools.read(agent.api, agent.options.pool)

    def _run_changed(self, event: Event, run_id: str) -> None:
        agent = self._agent
        mine = next((t for t in agent.tasks.values() if t.job.run_id == run_id), None)
        queue = next(
            (n for n, line in agent.taker.lines.items() if line.queue.id == event.queue_id), None
        )
        agent.taker.heard(run_id, event.state)
        if mine is not None and event.state_type in _LOOK:
            mine.tell(do="look")
        match event.state_type:
            case "SCHEDULED":
                agent.heart.others.discard(run_id)
                agent.peers.let_go(run_id)
                if event.name.endswith((".Scheduled", ".Late")):
                    agent.heart.unnamed = True
                if queue is not None:
                    self._ask_soon(run_id, queue)
            case "PENDING" | "RUNNING":
                self._calm(run_id)
                # A claim of one's own is told before the server has answered it.
                if mine is None and (event.state is None or event.state.note.agent != agent.name):
                    agent.heart.others.add(run_id)
                    agent.peers.took(run_id, event.state.note.agent if event.state else None)
            case _:
                self._calm(run_id)
        if event.state_type == CANCELLED and event.state is not None and not event.state.note.by:
            agent.help(self._bereaved(run_id))
        if event.state_type in FINAL or event.state_type == "PAUSED":
            agent.heart.others.discard(run_id)
            agent.peers.let_go(run_id)
            if queue is not None and self._limited(queue):
                agent.stir(queue)

    async def _bereaved(self, run_id: str) -> None:
        """Prefect has cancelled a waiting run by itself: what it has started must not run on.

        Whoever has a run sees to that, and nobody has this one. A few agents look.
        """
        agent = self._agent
        if not choose.sweeps_often(agent.name, agent.options.pool, agent.heart.online):
            return
        for pause in choose.AGAIN[:3]:
            await asyncio.sleep(pause)
            with contextlib.suppress(ClearflowError):
                if await abort_orphans(agent.api, run_id, by=agent.name):
                    return

    def _limited(self, queue: str) -> bool:
        agent = self._agent
        limits = (agent.taker.lines[queue].queue.limit, agent.taker.pool.get("concurrency_limit"))
        return any(limit is not None for limit in limits)

    def _ask_soon(self, run_id: str, queue: str) -> None:
        """Ask when it is this agent's turn; and again, as events come before their commit."""
        agent = self._agent
        self._calm(run_id)
        first = choose.delay(agent.name, run_id, agent.peers.serving(queue))
        if first == 0.0:
            agent.stir(queue)
        loop = asyncio.get_running_loop()
        times = [first] if first else []
        times += [first + again for again in choose.AGAIN]
        alarms = [loop.call_later(t, agent.stir, queue) for t in times]
        alarms.append(loop.call_later(times[-1] + 0.1, self._alarms.pop, run_id, None))
        self._alarms[run_id] = alarms

    def _calm(self, run_id: str) -> None:
        """Somebody has it: no need to ask for it."""
        for alarm in self._alarms.pop(run_id, ()):
            alarm.cancel()
