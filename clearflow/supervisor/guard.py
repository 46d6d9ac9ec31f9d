"""The guard of one claim: does it still stand, does somebody want it to end, who keeps it alive.

While its agent lives, the agent renews the machine's heartbeat and says so (the lease). When the
agent is gone the supervisor renews it itself, and looks after tasks of this machine whose
supervisors have died.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from clearflow._prefect import claims, pools
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError
from clearflow.runtimes import process, wire
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.settings import settings
from clearflow.tasks.loss import lose_dead
from clearflow.words.lifecycle import Standing
from clearflow.words.models import State


class End(enum.Enum):
    """Why a task has to end before it has ended."""

    ABORT = "abort"
    STOP = "stop"  # its agent stops: give it back
    GONE = "gone"  # the claim was taken over


class Guard:
    """Watches over one claim. `ending` is set, and `end` says why, when the task has to end.

    `freeze(True)` stops all of the task where it is; `freeze(False)` lets it go on.
    """

    def __init__(self, api: Api, rundir: RunDir, job: Job, name: str) -> None:
        self._api, self._rundir, self._job, self._name = api, rundir, job, name
        self.ending = asyncio.Event()
        self.end: End | None = None
        self.on_suspended: Callable[[State], None] = lambda state: None
        self.freeze: Callable[[bool], Awaitable[None]] = self._freeze_processes
        self._lease = job.claimed_at
        self._lapsed = False
        self._agents: set[asyncio.StreamWriter] = set()
        self._frozen = False
        self._looking = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        with self._rundir.socket_address() as address:
            self._server = await asyncio.start_unix_server(self._serve, address)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.finish, End.STOP)
        self._tasks = [
            asyncio.create_task(self._watch_lease()),
            asyncio.create_task(self._watch_claim()),
            asyncio.create_task(self._stand_in()),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.close()
        for writer in self._agents:
            writer.close()

    def leased(self) -> bool:
        """Whether nobody can have declared this task lost: the machine was heard of lately."""
        return time.monotonic() - self._lease < settings().silence * 2 / 3

    def unbroken(self) -> bool:
        """Whether that holds since the claim was made: then nobody has begun to do so, either."""
        return self.leased() and not self._lapsed

    def _renew(self, heard: float) -> None:
        """The machine was heard of at this moment."""
        if heard - self._lease >= settings().silence * 2 / 3:
            self._lapsed = True
        self._lease = max(self._lease, heard)

    def look(self) -> None:
        """Look at the claim now: an abort may have come just before the start."""
        self._looking.set()

    async def tell_end(self, outcome: str) -> None:
        """Tell the agent that the slot is free."""
        for writer in list(self._agents):
            with contextlib.suppress(OSError):
                writer.write(wire.encode({"ended": outcome}))
                async with asyncio.timeout(1):
                    await writer.drain()

    def finish(self, end: End) -> None:
        """Have the task end."""
        # A claim that is gone overrules everything: nothing may be written any more.
        if self.end is None or end is End.GONE:
            self.end = end
            self.ending.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._agents.add(writer)
        try:
            while line := await reader.readline():
                message = wire.decode(line)
                if "lease" in message:
                    self._renew(float(message["lease"]))
                elif message.get("do") == "look":
                    self.look()
                elif message.get("do") == "stop":
                    self.finish(End.STOP)
        except OSError:
            pass
        finally:
            self._agents.discard(writer)
            writer.close()

    async def _watch_claim(self) -> None:
        """Look at the run when told to, and now and then."""
        while True:
            every = settings().heartbeat * (3 if self._agents else 1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._looking.wait()
            self._looking.clear()
            await self._look()

    async def _look(self) -> None:
        where, state = await claims.standing(self._api, self._job.run_id, self._job.token)
        if where is Standing.ABORTED:
            self.finish(End.ABORT)
        elif where is Standing.SUSPENDED and state is not None:
            self.on_suspended(state)
        elif where is Standing.GONE:
            self.finish(End.GONE)
        if self._frozen and where is not Standing.GONE:
            await self._freeze(False)

    async def _watch_lease(self) -> None:
        """An exclusive task is frozen while its machine is cut off; any is looked at after it."""
        lapsed = False
        while True:
            await asyncio.sleep(min(1.0, settings().silence / 20))
            if not self.leased():
                lapsed = True
                if self._job.variables.get("exclusive"):
                    await self._freeze(True)
            elif lapsed:
                lapsed = False
                self.look()

    async def _freeze(self, frozen: bool) -> None:
        if frozen != self._frozen:
            self._frozen = frozen
            with contextlib.suppress(ClearflowError):  # it ends in this moment
                await self.freeze(frozen)

    async def _freeze_processes(self, frozen: bool) -> None:
        process.freeze(self._job.token, frozen)

    async def _stand_in(self) -> None:
        """Without an agent: keep the machine's heartbeat, and lose tasks of dead supervisors."""
        job = self._job
        absent = 0.0
        beat = min(settings().heartbeat, settings().silence / 3)
        while True:
            await asyncio.sleep(beat / 4)
            absent = absent + beat / 4 if not self._agents else 0.0
            if absent < beat / 2:
                continue
            absent = 0.0
            sent = time.monotonic()
            try:
                await pools.heartbeat(self._api, job.pool, job.agent, beat)
                self._renew(sent)
                await lose_dead(self._api, self._rundir.path.parent, by=self._name)
            except ClearflowError:
                continue
