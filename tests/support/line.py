"""Queues with tasks in them, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from clearflow._prefect import deployments, pools, runs
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow._prefect.template import base_job_template
from clearflow.queues import line
from clearflow.words import lifecycle
from clearflow.words.models import Queue, Run
from clearflow.words.names import flow_name, stored
from clearflow.words.notes import Note
from tests.support.server import PrefectServer


class Bench:
    """A work pool of one test: its queues, and tasks to put into them."""

    def __init__(self, api: Api, pool: str) -> None:
        self.api = api
        self.pool = pool
        self.deployment: dict[str, Any] = {}

    async def queue(self, name: str = "cpu", **options: Any) -> Queue:
        return await pools.create_queue(self.api, self.pool, name, **options)

    async def deploy(self, queue: Queue, flow: str = "train") -> dict[str, Any]:
        return await deployments.ensure(
            self.api,
            flow=flow_name(self.pool, flow),
            name="clearflow",
            pool=self.pool,
            queue=stored(queue.name),
            entrypoint="flow.py:train",
        )

    async def task(self, queue: Queue, name: str, **options: Any) -> Run:
        """A task at the back of a queue."""
        if not self.deployment:
            self.deployment = await self.deploy(queue)
        note = Note("queued by tester", by="tester", since=options.pop("since", None))
        options.setdefault("write", lifecycle.queued(note, options.pop("place", None)))
        of = options.pop("of", self.deployment)
        return await runs.create(self.api, of, name=name, queue=stored(queue.name), **options)

    async def tasks(self, queue: Queue, names: Iterable[str]) -> dict[str, Run]:
        """Tasks at the back of a queue, in this order."""
        return {name: await self.task(queue, name) for name in names}

    async def line(self, queue: Queue) -> list[str]:
        """The names of those who wait, in order."""
        return [run.name async for run in line.waiting(self.api, queue.id)]

    async def fresh(self, run: Run) -> Run:
        return await runs.read(self.api, run.id)

    async def claim(self, run: Run, agent: str = "host:0") -> Note:
        """Take a task as an agent does."""
        write = lifecycle.claimed(run, agent, lifecycle.claim_token())
        assert await runs.propose(self.api, run.id, write) is not None
        return write.note


@asynccontextmanager
async def bench(server: PrefectServer, unique: Callable[[str], str]) -> AsyncIterator[Bench]:
    # SQLite may keep a server that many write to waiting for a minute.
    async with Api(Connection(server.url), give_up_after=90) as api:
        pool = unique("pool")
        await pools.ensure(api, pool, base_job_template())
        yield Bench(api, pool)
