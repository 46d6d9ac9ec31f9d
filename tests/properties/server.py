"""Prefect's REST API in this process, the real one and a twin, under a clock that tests move."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx

from clearflow._prefect import pools, runs
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow.clock import ServerClock
from clearflow.words import lifecycle
from clearflow.words.models import State
from clearflow.words.notes import Note
from tests.properties.twin import Twin

T = TypeVar("T")

POOL, QUEUE = "clearflow", "gpu"
ADDRESS = Connection(url="http://in-process")


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until the test moves it."""

    def __init__(self) -> None:
        self.moment = 0.0
        super().__init__()

    def time(self) -> float:
        return self.moment

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done before something comes in, or time passes."""
        return not self._ready  # type: ignore[attr-defined]


class Clock:
    """The server's time: that of the loop, and a tick for every look at it."""

    START = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ticks = 0
        self._start = self.START
        self.ahead = 0.0  # of one server of several, on the same database

    def restart(self) -> None:
        """It is START again."""
        self._start = self.START - timedelta(seconds=self._loop.moment)

    def now(self) -> datetime:
        self._ticks += 1
        return self.peek() + timedelta(seconds=self.ahead)

    def peek(self) -> datetime:
        return self.at(self._loop.moment) + timedelta(microseconds=self._ticks)

    def at(self, moment: float) -> datetime:
        """The server's time at a moment of the loop."""
        return self._start + timedelta(seconds=moment)


class SeenClock(ServerClock):
    """The server's time as an actor sees it: late, by as much as answers are on their way."""

    def __init__(self, clock: Clock, late: float = 0.0) -> None:
        super().__init__()
        self._clock, self._late = clock, timedelta(seconds=late)

    def now(self) -> datetime:
        return self._clock.peek() - self._late


class Server:
    """What a test says to Prefect, and how it looks past everything into its database."""

    transport: httpx.AsyncBaseTransport

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.clock = Clock(loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def api(self, transport: httpx.AsyncBaseTransport | None = None, late: float = 0.0) -> Api:
        """A client; through `transport` when the test wants to stand in between."""
        api = Api(ADDRESS, transport=transport or self.transport, give_up_after=None)
        api.clock = SeenClock(self.clock, late)
        return api

    def reset(self, limit: int | None = None) -> None:
        """No runs, and this limit of the queue."""
        raise NotImplementedError

    def add(self, name: str) -> str:
        """A new task, at the back of the line: the id of its run."""
        raise NotImplementedError

    def states(self) -> dict[str, list[State]]:
        """The states of every run, in the order in which they were written."""
        raise NotImplementedError

    def written(self) -> int:
        """How many states have been written: another number when something has changed."""
        raise NotImplementedError


class TwinServer(Server):
    """The twin of Prefect's API."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self._twin = Twin(self.clock.now, POOL, QUEUE)
        self.transport = self._twin

    def reset(self, limit: int | None = None) -> None:
        self.clock.restart()
        self._twin.runs.clear()
        self._twin.limit = limit

    def add(self, name: str) -> str:
        note = Note("queued by ada", by="ada")
        state = {"type": "SCHEDULED", "name": "Queued", "message": str(note)}
        return self._twin.create(name, state)

    def states(self) -> dict[str, list[State]]:
        return self._twin.states()

    def written(self) -> int:
        return self._twin.written


class RealServer(Server):
    """Prefect's own API and orchestration on SQLite."""

    def __init__(self, loop: Loop, template: Path) -> None:
        super().__init__(loop)
        self._template = template

    def start(self) -> None:
        from clearflow._prefect import private

        logging.getLogger("prefect").setLevel(logging.CRITICAL)
        self._folder = Path(tempfile.mkdtemp(prefix="clearflow-"))
        file = self._folder / "prefect.db"
        shutil.copyfile(self._template, file)
        self._stack = contextlib.ExitStack()
        address = f"sqlite+aiosqlite:///{file}"
        app = self._stack.enter_context(private.in_process_api(address, self.clock.now, self.loop))
        self.transport = httpx.ASGITransport(app=app)
        self._database = sqlite3.connect(file)
        self.run(self._set_up())

    async def _set_up(self) -> None:
        self._api = self.api()
        await pools.ensure(self._api, POOL, {})
        await pools.create_queue(self._api, POOL, QUEUE)
        flow = (await self._api.post("/flows/", {"name": "flow"}))["id"]
        body = {
            "name": "deployment",
            "flow_id": flow,
            "work_pool_name": POOL,
            "work_queue_name": QUEUE,
        }
        self._deployment = dict(await self._api.post("/deployments/", body))

    def stop(self) -> None:
        self.run(self._api.close())
        self._database.close()
        self._stack.close()
        shutil.rmtree(self._folder)

    def reset(self, limit: int | None = None) -> None:
        self.clock.restart()
        with self._database:
            self._database.execute("DELETE FROM flow_run_input")
            self._database.execute("UPDATE flow_run SET state_id = NULL")
            self._database.execute("DELETE FROM flow_run_state")
            self._database.execute("DELETE FROM flow_run")
            self._database.execute("UPDATE work_queue SET concurrency_limit = ?", (limit,))

    def add(self, name: str) -> str:
        write = lifecycle.queued(Note("queued by ada", by="ada"))
        work = runs.create(self._api, self._deployment, write=write, name=name, queue=QUEUE)
        return self.run(work).id

    def states(self) -> dict[str, list[State]]:
        rows = self._database.execute(
            "SELECT flow_run_id, type, name, message, timestamp, state_details, id"
            " FROM flow_run_state ORDER BY rowid"
        )
        found: dict[str, list[State]] = {}
        for run, kind, name, message, moment, details, id in rows:
            found.setdefault(run, []).append(_state(kind, name, message, moment, details, id))
        return found

    def written(self) -> int:
        count: int = self._database.execute("SELECT count(*) FROM flow_run_state").fetchone()[0]
        return count


def _state(kind: str, name: str, message: str, moment: str, details: str, id: str) -> State:
    data: dict[str, Any] = {
        "type": kind,
        "name": name,
        "message": message,
        "timestamp": moment,
        "state_details": json.loads(details),
        "id": id,
    }
    return State.parse(data)


@contextlib.contextmanager
def real_server(template: Path) -> Iterator[RealServer]:
    """The server, and the loop it lives in."""
    with contextlib.closing(Loop()) as loop:
        server = RealServer(loop, template)
        server.start()
        try:
            yield server
        finally:
            server.stop()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())


@contextlib.contextmanager
def twin_server() -> Iterator[TwinServer]:
    """The twin, and a loop for those who talk to it."""
    with contextlib.closing(Loop()) as loop:
        yield TwinServer(loop)
