"""The supervisor's program, from the claim of one task to its final state.

    make sure of the claim ─ prepare the environment ─ let the process go ─ watch it ─ end its
    tree ─ record the outcome ─ tell the agent ─ send the rest of the console

It holds one task and nothing else. Its agent may be killed, upgraded or restarted meanwhile; its
own death kills the process, and the claim is then lost, never doubled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from clearflow._prefect import claims, runs
from clearflow._prefect.claims import Limits
from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.clock import duration
from clearflow.errors import ClearflowError, NotFound, ServerError, Unreachable
from clearflow.runtimes import clearing, process
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.runtimes.running import TaskProcess
from clearflow.service.desk import LONGEST, Desk
from clearflow.settings import settings
from clearflow.supervisor import program, spawn
from clearflow.supervisor.console import Console
from clearflow.supervisor.contained import InContainer
from clearflow.supervisor.control import PATIENCE, ChildLink
from clearflow.supervisor.errands import Errands
from clearflow.supervisor.guard import End, Guard
from clearflow.supervisor.lines import secrets_of
from clearflow.supervisor.preparation import OnThisMachine
from clearflow.supervisor.runtime import Runtime, Task
from clearflow.tasks import abort as aborting
from clearflow.tasks import loss
from clearflow.words import lifecycle, losing
from clearflow.words.lifecycle import Exit, Standing, Taken, Write
from clearflow.words.models import FINAL, PAUSED, SCHEDULED, State
from clearflow.words.names import CONTROLS
from clearflow.words.scripts import Script

# Who aborts a task without a word: a cancellation in Prefect's own ways carries no note.
UNSAID = "the Prefect UI"


class Supervisor:
    """One task."""

    def __init__(
        self,
        rundir: RunDir,
        job: Job,
        env: dict[str, str],
        place: Path,
        child: spawn.Child | None,
    ) -> None:
        self.rundir, self.job, self.env, self.place = rundir, job, env, place
        self.child: TaskProcess | None = child
        self.script = Script.of(job.variables)
        self.name = f"{job.agent}/{job.token}"
        self.stale = timedelta(seconds=settings().silence)
        self.before_oom = process.out_of_memory_kills()

    async def supervise(self) -> None:
        api = Api(connection(), give_up_after=None)
        self.api = api
        self.console = Console(
            api,
            self.job.run_id,
            self.rundir.console,
            head=settings().console_head,
            tail=settings().console_tail,
            secrets=secrets_of(self.env),
        )
        self.guard = Guard(api, self.rundir, self.job, self.name)
        self.desk = Desk(api, self.job.run_id, self.console.note)
        self.errands = Errands(api, self.job.run_id, self.console.note)
        shipping = asyncio.create_task(self.console.ship())
        try:
            async with self.guard, self._open_desk():
                outcome = await self._life()
                await self.guard.tell_end(outcome)
            self.console.close()
            await shipping
        finally:
            await api.close()
            self.rundir.remove()

    @contextlib.asynccontextmanager
    async def _open_desk(self) -> AsyncIterator[None]:
        """Answer what the task's process asks."""
        with self.rundir.socket_address("t") as address:
            server = await asyncio.start_unix_server(self.desk.serve, address, limit=LONGEST)
        try:
            yield
        finally:
            server.close()

    async def _life(self) -> str:
        """Everything up to the recorded outcome; returns it in a word."""
        confirming = asyncio.create_task(self._confirm())
        link = ChildLink(
            self.job,
            self.console,
            self.guard,
            confirming,
            self._write,
            self.errands,
            {"claim": self.rundir.path, "folder": self.place},
        )
        if self.child is not None:
            link.attach(self.child)
        word = await confirming
        if word != "go":
            await self._end_tree()
            return await self._not_started(word)
        self.errands.begin()
        ended = Exit()
        try:
            if self.child is None:
                ended = await self._prepare_and_run(link)
            else:
                ended = await self._run(link)
        except ClearflowError as error:
            self.console.note(f"{error.message}", level=40)
            ended = Exit(error=error.message)
        await self._end_tree()
        await link.drained()
        await self.desk.drained()
        await self.desk.written()
        if self.desk.verdict is not None and ended.signal is None and not self.guard.end:
            ended = Exit.declared(*self.desk.verdict, "the task itself")
        if self.guard.end is End.GONE:
            self.errands.drop()
        else:
            await self.errands.done()
        return await self._record(link, ended)

    async def _confirm(self) -> str:
        """Whether the claim stands and fits under the limits: go, aborted, gone or yield."""
        token = self.job.token
        verdict, before = await claims.confirm(self.api, self.job.run_id, token)
        if verdict is Taken.RESTORE:
            return "gone"
        if verdict is Taken.LOST:
            where, _ = await claims.standing(self.api, self.job.run_id, token)
            return "aborted" if where is Standing.ABORTED else "gone"
        self.taken_from = before
        limits = Limits(self.job.queue_limit, self.job.pool_limit)
        if limits != Limits():
            run = await runs.read(self.api, self.job.run_id)
            stored = run.queue or self.job.queue
            if not await claims.admit(self.api, run, self.job.pool, stored, limits):
                return "yield"
        return "go"

    async def _not_started(self, word: str) -> str:
        if word == "yield":
            place = self.taken_from.place if self.taken_from else None
            text = "waiting: the queue's limit is reached"
            write = lifecycle.returned(self.job.claim, place, text)
            with self.rundir.writing():
                await claims.put_back(self.api, self.job.run_id, write)
        elif word == "aborted":
            await self._finish(lifecycle.aborted(UNSAID, self.job.claim))
        return word

    async def _prepare_and_run(self, link: ChildLink) -> Exit:
        """Have everything ready where the task is to run, and run it there."""
        of = Task(self.api, self.rundir, self.job, self.env, self.place, self.console, link.attach)
        docker = self.job.runtime == clearing.DOCKER
        runtime: Runtime = InContainer(of) if docker else OnThisMachine(of)
        self.guard.freeze = runtime.freeze
        try:
            if not await self._prepared(runtime):
                return Exit()
            given = [] if self.script is None else await self._begin_script()
            if given is None:
                return Exit()
            self.child = await runtime.start(given)
            return await self._run(link)
        finally:
            await runtime.close()

    async def _prepared(self, runtime: Runtime) -> bool:
        """Have a runtime prepare itself; False when the task has to end before it has."""
        ending = asyncio.create_task(self.guard.ending.wait())
        preparing = asyncio.create_task(runtime.prepare())
        await asyncio.wait({ending, preparing}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not preparing.done():
            preparing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await preparing
            return False
        try:
            preparing.result()
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            said = f"{error.strerror or error}{where}"
            raise ClearflowError(f"{self.name} could not prepare it: {said}") from error
        return True

    async def _begin_script(self) -> list[str] | None:
        """Write that the script starts; its arguments, None when it must not start any more.

        A flow's engine writes its states itself; for a script it is done here.
        """
        given = await program.arguments(self.api, self.job.run_id)
        with self.rundir.writing():
            where = await claims.begin(
                self.api,
                self.job.run_id,
                self.job.claim,
                by=self.name,
                leased=self.guard.leased,
                stale_after=self.stale,
            )
        if where is Standing.MINE:
            return given
        self.guard.finish(End.ABORT if where is Standing.ABORTED else End.GONE)
        return None

    async def _run(self, link: ChildLink) -> Exit:
        """Watch the process until it ends, and end it when it has to."""
        assert self.child is not None
        exited = asyncio.create_task(self.child.wait())
        ending = asyncio.create_task(self.guard.ending.wait())
        limiting = asyncio.create_task(self._limit())
        await asyncio.wait({exited, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        limiting.cancel()
        if not exited.done():
            await self._stop(exited)
        ended = await exited
        killed = ended.signal == "SIGKILL" and self.guard.end is None
        if killed and process.out_of_memory_kills() > self.before_oom:
            ended = replace(ended, out_of_memory=True)
        if link.failed:
            ended = replace(ended, error=link.failed)
        return ended

    async def _limit(self) -> None:
        """Abort the task, as a person would, once it has run for as long as it may."""
        limit = float(self.job.variables.get("time_limit_seconds") or 0)
        if limit > 0:
            await asyncio.sleep(limit)
            await claims.abort(self.api, self.job.run_id, f"its time limit of {duration(limit)}")
            self.guard.look()

    async def _stop(self, exited: asyncio.Task[Exit]) -> None:
        """Ctrl-C, then SIGTERM, then SIGKILL, to the whole tree; at once for a lost claim."""
        assert self.child is not None
        grace = self.job.variables.get("grace_seconds")
        grace = max(settings().grace if grace is None else float(grace), self.desk.grace)
        if self.guard.end is not End.GONE:
            for number in (signal.SIGINT, signal.SIGTERM):
                await self.child.send(number)
                await asyncio.wait({exited}, timeout=grace)
                if exited.done():
                    return
        await self.child.kill()

    async def _end_tree(self) -> None:
        """Leave nothing of the task running."""
        if not spawn.any_left():
            return  # orphans of the task would be children of this process
        left = [*process.of_claim(self.job.token), *process.descendants(os.getpid())]
        if left:
            process.kill_claim(self.job.token)
            process.send(process.descendants(os.getpid()), signal.SIGKILL)

    async def _record(self, link: ChildLink, ended: Exit) -> str:
        """Write the outcome, unless the flow engine has, or the claim is somebody else's."""
        note = self.job.claim
        end = self.guard.end
        if end is End.GONE:
            return "gone"
        if link.told is not None and link.told[0] in FINAL:
            return link.told[1].lower()
        if end is End.STOP:
            place = await claims.front(self.api, await runs.read(self.api, self.job.run_id))
            state = await self._finish(losing.given_back(note, "its agent stopped", place))
            return "given back" if state else "gone"
        engine_left = link.told is not None and link.told[0] in {PAUSED, SCHEDULED}
        if engine_left and end is None and ended.code == 0:
            return "suspended"
        if end is None and ended.code == 0:
            where, _ = await claims.standing(self.api, self.job.run_id, self.job.token)
            if where is Standing.SUSPENDED:
                return "suspended"
        if end is End.ABORT:
            ended = Exit(aborted_by=UNSAID)
        await self.console.shipped(PATIENCE)
        write = lifecycle.outcome(ended, note)
        state = await (
            self._finish(write) if write.type == "COMPLETED" else self._failed(write, ended)
        )
        if state is None:
            return "gone"
        if state.type != "COMPLETED":
            self.console.note(state.note.text, level=40)
        return state.name.lower()

    async def _failed(self, write: Write, ended: Exit) -> State | None:
        """Record an end that is not a good one; what else follows when it is a pipeline's.

        The controller that was killed begins again, and finds its steps. Else they end with it.
        """
        try:
            run = await runs.read(self.api, self.job.run_id)
        except NotFound:
            return await self._finish(write)
        if CONTROLS in run.labels and ended.signal is not None and self.guard.end is None:
            place = await claims.front(self.api, run)
            attempts = await loss.attempts_of(self.api, run)
            write = losing.lost(run, f"killed by {ended.signal}", attempts, place)
        state = await self._finish(write)
        await aborting.after_end(self.api, run, state, by=self.name)
        return state

    async def _write(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        """Send a state that the flow's engine has made; None when the claim has ended.

        Each try arrives in time or not at all, and a state that is sent twice is written once.
        """
        path = f"/flow_runs/{self.job.run_id}/set_state"
        while await self._entitled():
            try:
                with self.rundir.writing():
                    async with asyncio.timeout(self.stale.total_seconds() / 6):
                        return await self.api.answer("POST", path, body)
            except (TimeoutError, Unreachable, ServerError):
                await asyncio.sleep(min(0.05, self.stale.total_seconds() / 60))
        return None

    async def _entitled(self) -> bool:
        """Whether a state may be written now; one that was, its answer lost, is written again."""
        if self.guard.end is End.GONE:
            return False
        if self.guard.unbroken():
            return True
        where, _ = await claims.entitled(
            self.api,
            self.job.run_id,
            token=self.job.token,
            by=self.name,
            leased=self.guard.leased,
            stale_after=self.stale,
        )
        return where in {Standing.MINE, Standing.SUSPENDED, Standing.ENDED}

    async def _finish(self, write: Write) -> State | None:
        with self.rundir.writing():
            return await claims.finish(
                self.api,
                self.job.run_id,
                write,
                token=self.job.token,
                by=self.name,
                leased=self.guard.leased,
                stale_after=self.stale,
            )
