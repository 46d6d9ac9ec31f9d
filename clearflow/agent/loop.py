"""The agent: waits to be woken, takes what fits, and looks after what it has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from typing import Any

from clearflow import agents
from clearflow._prefect.http import Api
from clearflow.agent.containers import Containers
from clearflow.agent.heart import Heart
from clearflow.agent.launch import Launcher, Running
from clearflow.agent.listen import Listener
from clearflow.agent.options import AgentOptions
from clearflow.agent.peers import LEFT, Peers
from clearflow.agent.slots import Used
from clearflow.agent.take import SOON, Taker
from clearflow.agents import AgentRecord, Wish
from clearflow.errors import ClearflowError, NotFound
from clearflow.runtimes import clearing, rundir
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.settings import settings
from clearflow.tasks import loss
from clearflow.words.models import Machine
from clearflow.words.names import COLD, SERVICES, shown

_LISTENS_AFTER = 1.0  # seconds that an agent waits for the event stream before it takes tasks


class Agent:
    """One agent on one machine. `run` returns when it was asked to stop and has stopped."""

    def __init__(
        self,
        api: Api,
        options: AgentOptions,
        name: str,
        machine: Machine,
        say: Callable[[str], None],
    ) -> None:
        self.api, self.options, self.name, self.machine, self.say = (
            api,
            options,
            name,
            machine,
            say,
        )
        self.tasks: dict[str, Running] = {}
        self.record: AgentRecord | None = None
        self.folder = rundir.agent_folder(settings().home_path, name)
        policy = options.containers
        light = options.services or SERVICES in options.queues
        more = [*([clearing.DOCKER] if policy else []), *([SERVICES] if light else [])]
        cold = [] if settings().warm else [COLD]
        self.launcher = Launcher(api.connection, *more, *cold)
        self.containers = Containers(name, policy, say)
        self.peers = Peers(api, options.pool, name)
        self.heart = Heart(api, options.pool, name, self._claims, self._beaten, self.peers)
        self.status = "running"
        self.taker = Taker(api, options, name, machine, self._used, self._start)
        self._wake = asyncio.Event()
        self.listening = asyncio.Event()
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._empty = asyncio.Event()
        self._idle_since = time.monotonic()
        self._helpers: set[asyncio.Task[None]] = set()

    # -- life --------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.taker.prepare()
        if await agents.wished(self.api, self.name) is Wish.PAUSE:
            self.status = "paused"
        await asyncio.gather(self.launcher.start(), self.heart.beat(), self._adopt())
        self.api.on_change = self._server_changed
        listener = Listener(self)
        loops = [
            asyncio.create_task(loop)
            for loop in (
                listener.listen(),
                self.heart.keep_beating(),
                self.heart.keep_sweeping(),
                self._keep_record(),
                self._keep_asking(),
                self._leave_in_time(),
            )
        ]
        over = asyncio.create_task(self._over.wait())
        self.say(f"agent {self.name} serves {', '.join(self.taker.lines)}")
        try:
            done, _ = await asyncio.wait({*loops, over}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {over}:
                task.result()  # a loop never ends but by an error
        finally:
            for task in (*loops, over, *self._helpers):
                task.cancel()
            await asyncio.gather(*loops, over, *self._helpers, return_exceptions=True)
            self.launcher.close()
        if self.record is not None and not self.tasks:
            await agents.forget(self.api, self.record)
            await self.peers.tell(LEFT, self.taker.pool["id"])

    async def _adopt(self) -> None:
        """Find again the tasks that run on since an agent of this name was here."""
        for folder in rundir.rundirs(self.folder):
            job = folder.job()
            if job is not None and folder.has_supervisor():
                self.say(f"found {job.name} ({job.task_id}) running")
                await self._follow(Running(folder, job), lease=0.0)
        await self._lose_dead()
        known = {t.job.token for t in self.tasks.values()}
        await self.containers.sweep(known)
        self.heart.others.update(
            await loss.lose_forgotten(self.api, self.options.pool, self.name, known)
        )

    def _server_changed(self, answers: bool) -> None:
        if answers:
            self.heart.outage_over()
            self.say("the Prefect server answers again")
        else:
            self.say("the Prefect server does not answer; tasks run on, and I keep trying")

    # -- being asked -------------------------------------------------------------------------

    def wish(self, wish: Wish) -> None:
        """Do what somebody asks of this agent."""
        match wish:
            case Wish.RUN:
                self._become("running")
                self.stir()
            case Wish.PAUSE:
                self._become("paused")
            case Wish.DRAIN:
                self.help(self._drain())
            case Wish.STOP:
                self.help(self._stop())

    def leave(self) -> None:
        """Exit now; the tasks run on, and the next agent of this name finds them."""
        for task in self.tasks.values():
            task.leave()
        self._over.set()

    def _become(self, status: str) -> None:
        if status != self.status and self.status not in {"draining", "stopping"}:
            self.status = status
            self.say(f"agent {self.name} is {status}")
            self._changed.set()

    async def _leave_in_time(self) -> None:
        """On a machine that is taken away at a known time: be gone before, with nothing left."""
        hours = self.options.max_hours
        if hours is not None:
            # What runs has the time of a drain to end by itself, and then some to be given back.
            drain = min(settings().drain, hours * 3600 / 10)
            await asyncio.sleep(hours * 3600 - drain)
            self.say(f"this machine is there for {hours:g} h: no more tasks")
            await self._drain(drain / 2)
        await asyncio.Event().wait()

    async def _drain(self, patience: float | None = None) -> None:
        self._become("draining")
        self._empty_handed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings().drain if patience is None else patience):
                await self._empty.wait()
        await self._stop()

    async def _stop(self) -> None:
        self.status = "stopping"
        for task in self.tasks.values():
            task.tell(do="stop")
        self._empty_handed()
        await self._empty.wait()
        await agents.granted(self.api, self.name)
        self._over.set()

    def help(self, work: Any) -> None:
        """Do something beside what it does all the time, as long as it lives."""
        task = asyncio.create_task(work)
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    # -- taking ------------------------------------------------------------------------------

    def stir(self, queue: str | None = None) -> None:
        """There may be something to take, in one queue or in any."""
        self.taker.stir(queue)
        self._wake.set()

    async def _keep_asking(self) -> None:
        """Take what there is whenever woken, when a run becomes due, and now and then."""
        # Who listens has to ask, as nobody told what happened before: once is enough.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LISTENS_AFTER):
                await self.listening.wait()
        failures = 0
        while True:
            if self.status == "running":
                try:
                    await self.containers.answer()
                    while self.status == "running" and await self.taker.take_one():
                        pass
                    failures = 0
                except NotFound:
                    raise
                except ClearflowError as error:
                    self.say(f"error: {error.message}")
                    failures += 1
                    await asyncio.sleep(min(2.0**failures, 60.0))
                    self.taker.stir()
                    continue
            await self._until_woken()

    async def _until_woken(self) -> None:
        # Those who were woken together would ask together for ever.
        wait = idle = settings().idle_ask * random.uniform(0.9, 1.1)
        if self.taker.next_due is not None:
            until_due = (self.taker.next_due - self.api.clock.now()).total_seconds()
            wait = min(wait, max(until_due, 0.05))
        if self.options.idle_timeout is not None:
            wait = min(wait, max(self.options.idle_timeout / 4, 0.1))
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            due = (
                self.taker.next_due is not None
                and self.taker.next_due <= self.api.clock.now() + SOON
            )
            asked_lately = wait < idle and not due
            if asked_lately:
                self._check_idle()
            else:
                self.taker.stir()
        self._wake.clear()

    def _check_idle(self) -> None:
        limit = self.options.idle_timeout
        if limit is None or self.tasks or time.monotonic() - self._idle_since < limit:
            return
        self.say(f"nothing to do for {limit:g} s")
        self._over.set()

    async def _start(self, job: Job) -> None:
        """Have a supervisor run a claim."""
        folder = RunDir(self.folder / job.token)
        try:
            folder.write(job)
            await self._follow(Running(folder, job), lease=self.heart.last_beat)
            await self.launcher.launch(folder)
        except (ClearflowError, OSError):
            self.tasks.pop(job.token, None)
            folder.remove()
            raise
        self.heart.quicken()
        self.say(f"took {shown(job.name)} ({job.task_id}) from {job.queue}")

    # -- what it has -------------------------------------------------------------------------

    async def _follow(self, task: Running, lease: float) -> None:
        self.tasks[task.job.token] = task
        self._empty_handed()
        self._changed.set()
        await task.watch(self._ended, lease)

    def _ended(self, task: Running, outcome: str | None) -> None:
        self.tasks.pop(task.job.token, None)
        self._changed.set()
        self._empty_handed()
        self._idle_since = time.monotonic()
        self.say(f"{shown(task.job.name)} ({task.job.task_id}): {outcome or 'lost'}")
        if outcome == "gone":
            # Whoever has it now, somebody must look after it.
            self.heart.others.add(task.job.run_id)
        self.help(self._lost(task) if outcome is None else self._see_off(task))
        self.taker.freed()
        if outcome == "yield":
            asyncio.get_running_loop().call_later(0.2, self.stir, task.job.queue)
        else:
            self._wake.set()

    def _empty_handed(self) -> None:
        if self.tasks:
            self._empty.clear()
        else:
            self._empty.set()

    def _claims(self) -> set[str]:
        """The tokens of what it has, and of what has not been cleared away."""
        return {*self.tasks, *(d.path.name for d in rundir.rundirs(self.folder))}

    def _used(self) -> list[Used]:
        return [t.used for t in self.tasks.values()]

    async def _lost(self, task: Running) -> None:
        """The line to a supervisor broke: it has died, and its task with it, or it is there yet."""
        for _ in range(100):
            # The kernel closes a dying process's files one after the other.
            if not task.rundir.has_supervisor():
                await self._lose_dead()
                self.stir(task.job.queue)
                return
            await asyncio.sleep(0.02)
        await self._follow(Running(task.rundir, task.job), lease=self.heart.last_beat)

    async def _see_off(self, task: Running) -> None:
        """A supervisor that has told the end sends the rest of the console, or dies over it."""
        while task.rundir.path.is_dir():
            await asyncio.sleep(settings().heartbeat / 4)
            if not task.rundir.has_supervisor():
                await self._lose_dead()

    async def _lose_dead(self) -> None:
        # Of those it has, one that was just begun may have no supervisor yet.
        self.heart.others.update(
            await loss.lose_dead(self.api, self.folder, by=self.name, spare=self.tasks)
        )

    def _beaten(self, sent: float) -> None:
        for task in self.tasks.values():
            task.tell(lease=sent)

    async def _keep_record(self) -> None:
        """Write down what this agent is and has, whenever that has changed."""
        while True:
            record = self._describe()
            if self.record is None or replace(record, since=self.record.since) != self.record:
                self.record = replace(
                    record, since=self.record.since if self.record else agents.since_now()
                )
                with contextlib.suppress(ClearflowError):
                    await agents.save(self.api, self.record)
            await self._changed.wait()
            # Short tasks come and go: what is written is what stays for a second.
            await asyncio.sleep(1.0)
            self._changed.clear()

    def _describe(self) -> AgentRecord:
        return AgentRecord(
            name=self.name,
            pool=self.options.pool,
            queues=tuple(self.taker.lines),
            slots=self.machine.slots,
            gpus=tuple(self.machine.gpus),
            tasks=tuple(sorted(t.job.run_id for t in self.tasks.values())),
            status=self.status,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=metadata.version("clearflow"),
            runtimes=tuple(self.machine.runtimes),
            images=tuple(self.machine.images),
            cpus=self.machine.cpus,
            memory_mb=self.machine.memory_mb,
        )
