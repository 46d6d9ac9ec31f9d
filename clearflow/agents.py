"""The records of agents, and what people ask of them.

An agent writes what it is in the variable `clearflow_agent_<slug>` whenever that changes; whether
it lives is told by Prefect's worker record. What others ask of it stands beside it in
`clearflow_wish_<slug>`, so an agent that is down, or cut off, learns of it when it is back.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from clearflow import clock
from clearflow._prefect import events, pools, variables
from clearflow._prefect.http import Api
from clearflow.errors import NotFound
from clearflow.words.models import Machine, Worker
from clearflow.words.names import slug
from clearflow.words.why import Serving

RECORD, WISH = "clearflow_agent_", "clearflow_wish_"
WISHED = "clearflow.agent.wished"


class Wish(enum.StrEnum):
    """What somebody asks of an agent."""

    RUN = "run"  # take tasks again
    PAUSE = "pause"  # take no further tasks, until resumed
    DRAIN = "drain"  # finish the running tasks, then exit
    STOP = "stop"  # give the running tasks back, then exit


@dataclass(frozen=True)
class AgentRecord:
    """What an agent says of itself. `tasks` are the ids of the runs it has."""

    name: str
    pool: str
    queues: tuple[str, ...]
    slots: int = 1
    gpus: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    status: str = "running"
    host: str = ""
    pid: int = 0
    version: str = ""
    since: str = ""
    runtimes: tuple[str, ...] = ("process",)
    cpus: float = 0.0
    memory_mb: int = 0
    images: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> AgentRecord:
        known = {k: data[k] for k in cls.__dataclass_fields__ if k in data}
        for key in ("queues", "gpus", "tasks", "runtimes", "images"):
            known[key] = tuple(known.get(key) or ())
        return cls(**known)


@dataclass(frozen=True)
class AgentView:
    """An agent as others see it: its record, and whether it lives."""

    record: AgentRecord
    heartbeat: datetime | None = None
    online: bool = False
    wish: Wish | None = None

    @property
    def status(self) -> str:
        """running, paused, draining or stopping; offline when nothing is heard of it."""
        return self.record.status if self.online else "offline"

    @property
    def serving(self) -> Serving:
        """The agent as those see it who wait for it."""
        record = self.record
        machine = Machine(
            slots=record.slots,
            gpus=record.gpus,
            cpus=record.cpus,
            memory_mb=record.memory_mb,
            runtimes=record.runtimes,
            images=record.images,
        )
        return Serving(record.name, record.queues, self.status, machine, len(record.tasks))


async def save(api: Api, record: AgentRecord) -> None:
    await variables.write(api, RECORD + slug(record.name), asdict(record))


async def forget(api: Api, record: AgentRecord) -> None:
    """An agent that exits in order leaves no record behind."""
    await variables.delete(api, RECORD + slug(record.name))
    await pools.forget_worker(api, record.pool, record.name)


async def records(api: Api) -> list[AgentRecord]:
    """What the agents of every pool have written of themselves, whether they live or not."""
    found = await variables.starting_with(api, RECORD)
    return [AgentRecord.parse(value) for value in found.values()]


async def find(api: Api, pool: str | None = None) -> list[AgentView]:
    """All agents, of one pool or of every pool of clearflow, by name."""
    written = await records(api)
    wishes = await variables.starting_with(api, WISH)
    names = {pool} if pool else {p["name"] for p in await pools.all_of_type(api)}
    workers: dict[tuple[str, str], Worker] = {}
    for each in names:
        workers.update({(each, w.name): w for w in await pools.workers(api, each)})
    views = []
    for record in written:
        if record.pool not in names:
            continue
        worker = workers.pop((record.pool, record.name), None)
        wish = wishes.get(WISH + slug(record.name))
        views.append(
            AgentView(
                record,
                heartbeat=worker.heartbeat if worker else None,
                online=bool(worker and worker.online),
                wish=Wish(wish["wish"]) if wish else None,
            )
        )
    return sorted(views, key=lambda v: v.record.name)


async def read(api: Api, name: str) -> AgentView:
    """One agent by name. Raises NotFound."""
    for view in await find(api):
        if view.record.name == name:
            return view
    raise NotFound(f"there is no agent {name!r}", hint="`clearflow agent ls` lists them")


async def ask(api: Api, view: AgentView, wish: Wish, by: str) -> None:
    """Ask something of an agent; it hears of it at once, or when it is back."""
    record = view.record
    name = WISH + slug(record.name)
    if wish is Wish.RUN:
        await variables.delete(api, name)
    else:
        value = {"wish": wish.value, "by": by, "at": api.clock.now().isoformat()}
        await variables.write(api, name, value)
    pool = await pools.read(api, record.pool)
    await events.emit(
        api,
        WISHED,
        f"clearflow.agent.{slug(record.name)}",
        related={f"prefect.work-pool.{pool['id']}": "work-pool"},
        payload={"agent": record.name, "wish": wish.value, "by": by},
    )


async def wished(api: Api, name: str) -> Wish | None:
    """What is asked of an agent now."""
    value = await variables.read(api, WISH + slug(name))
    return Wish(value["wish"]) if value else None


async def granted(api: Api, name: str) -> None:
    """A stop or drain has been carried out: the next start of this agent works again."""
    await variables.delete(api, WISH + slug(name))


def since_now() -> str:
    return clock.now().isoformat(timespec="seconds")
