"""The agent: waits to be woken, takes what fits, and looks after what it has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib import metadata
from typing import Any

from clearflow import agents
from clearflow._prefect import claims, deployments, pools, runs
from clearflow._prefect.http import Api
from clearflow.agent import choose, slots
from clearflow.agent.heart import Heart
from clearflow.agent.launch import Launcher, Running, claim_folder
from clearflow.agent.listen import Listener
from clearflow.agent.options import AgentOptions
from clearflow.agents import AgentRecord, Wish
from clearflow.errors import ClearflowError, NotFound
from clearflow.runtimes import rundir
from clearflow.runtimes.rundir import Job
from clearflow.settings import settings
from clearflow.tasks import loss
from clearflow.words import jobs, lifecycle
from clearflow.words.models import Machine, Needs, Queue, Run
from clearflow.words.names import shown

OFFERED = 20
SOON = timedelta(seconds=1)  # how far the estimate of the server's time may be behind


@dataclass
class Line:
    """A queue as its agent knows it. `stirred`: there may be something to take."""

    queue: Queue
    stirred: bool = True


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
        self.launcher = Launcher(api.connection)
        self.heart = Heart(api, options.pool, name, lambda: bool(self.tasks), self._beaten)
        self.status = "running"
        self.lines: dict[str, Line] = {}
        self.pool: dict[str, Any] = {}
        self._passed: dict[str, datetime] = {}
        self._deployments: dict[str | None, dict[str, Any]] = {}
        self._last_queue: str | None = None
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._next_due: datetime | None = None
        self._idle_since = time.monotonic()
        self._helpers: set[asyncio.Task[None]] = set()

    # -- life --------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.prepare()
        await asyncio.gather(self.launcher.start(), self.heart.beat(), self._adopt())
        listener = Listener(self)
        loops = [
            asyncio.create_task(loop)
            for loop in (
                listener.listen(),
                self.heart.keep_beating(),
                self.heart.keep_sweeping(),
                self._keep_record(),
                self._keep_asking(),
            )
        ]
        over = asyncio.create_task(self._over.wait())
        self.say(f"agent {self.name} serves {', '.join(self.lines)}")
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

    async def prepare(self) -> None:
        """Read the pool and the queues. Raises NotFound for a queue that does not exist."""
        self.pool = await pools.read(self.api, self.options.pool)
        names = self.options.queues or tuple(
            q.name for q in await pools.queues(self.api, self.options.pool)
        )
        for name in names:
            try:
                queue = await pools.queue(self.api, self.options.pool, name)
            except NotFound as missing:
                if not self.options.create_queues:
                    raise NotFound(
                        missing.message, hint="--create-queue makes it"
                    ) from None
                queue = await pools.create_queue(self.api, self.options.pool, name)
            self.lines[queue.name] = Line(queue)
        if await agents.wished(self.api, self.name) is Wish.PAUSE:
            self.status = "paused"

    async def _adopt(self) -> None:
        """Find again the tasks that run on since an agent of this name was here."""
        for folder in rundir.of_agent(settings().home_path, self.name):
            job = folder.job()
            if job is not None and folder.has_supervisor():
                self.say(f"found {job.name} ({job.task_id}) running")
                await self._follow(Running(folder, job), lease=0.0)
        await loss.lose_dead(self.api, self.folder, by=self.name)
        known = {t.job.token for t in self.tasks.values()}
        await loss.lose_forgotten(self.api, self.options.pool, self.name, known)

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
                self._help(self._drain())
            case Wish.STOP:
                self._help(self._stop())

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

    async def _drain(self) -> None:
        self._become("draining")
        deadline = time.monotonic() + settings().drain
        while self.tasks and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await self._stop()

    async def _stop(self) -> None:
        self.status = "stopping"
        for task in self.tasks.values():
            task.tell(do="stop")
        while self.tasks:
            await asyncio.sleep(0.05)
        await agents.granted(self.api, self.name)
        self._over.set()

    def _help(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    # -- taking ------------------------------------------------------------------------------

    def stir(self, queue: str | None = None) -> None:
        """There may be something to take, in one queue or in any."""
        for name, line in self.lines.items():
            if queue is None or name == queue:
                line.stirred = True
        self._wake.set()

    async def _keep_asking(self) -> None:
        """Take what there is whenever woken, when a run becomes due, and now and then."""
        while True:
            if self.status == "running":
                try:
                    while await self.take_one():
                        pass
                except ClearflowError as error:
                    self.say(f"error: {error.message}")
                    await asyncio.sleep(1)
            await self._until_woken()

    async def _until_woken(self) -> None:
        wait = settings().idle_ask
        if self._next_due is not None:
            until_due = (self._next_due - self.api.clock.now()).total_seconds()
            wait = min(wait, max(until_due, 0.05))
        if self.options.idle_timeout is not None:
            wait = min(wait, max(self.options.idle_timeout / 4, 0.1))
        try:
            await asyncio.wait_for(self._wake.wait(), wait)
        except TimeoutError:
            due = self._next_due is not None and self._next_due <= self.api.clock.now() + SOON
            asked_lately = wait < settings().idle_ask and not due
            if asked_lately:
                self._check_idle()
            else:
                for line in self.lines.values():
                    line.stirred = True
        self._wake.clear()

    def _check_idle(self) -> None:
        limit = self.options.idle_timeout
        if limit is None or self.tasks or time.monotonic() - self._idle_since < limit:
            return
        self.say(f"nothing to do for {limit:g} s")
        self._over.set()

    async def take_one(self) -> bool:
        """Take the first task that fits, in this agent's order of queues. False for none."""
        used = [t.used for t in self.tasks.values()]
        if self.status != "running" or slots.free(self.machine, used).slots < 1:
            return False
        self._next_due = None
        names = choose.order(list(self.lines), self.options.fairness, self._last_queue)
        for name in names:
            line = self.lines[name]
            if not line.stirred:
                continue
            line.stirred = False
            offered = await pools.offered(
                self.api, self.options.pool, [name], limit=OFFERED
            )
            due = self._due(offered)
            if await self._take_from(name, due):
                line.stirred = True
                self._last_queue = name
                return True
        return False

    def _due(self, offered: list[Run]) -> list[Run]:
        """Those that may start now; the first of the others sets the alarm."""
        horizon = self.api.clock.now() + SOON
        later = [r.place for r in offered if r.place is not None and r.place > horizon]
        if later:
            first = min(later)
            self._next_due = min(first, self._next_due or first)
        return [r for r in offered if r.place is None or r.place <= horizon]

    async def _take_from(self, queue: str, due: list[Run]) -> bool:
        now = self.api.clock.now()
        wanted = {r.id: await self._variables(r) for r in due}
        offers = [
            slots.Offer(r.id, Needs.parse(wanted[r.id]), self._passed.get(r.id)) for r in due
        ]
        by_id = {r.id: r for r in due}
        used = [t.used for t in self.tasks.values()]
        while (offer := slots.choose(self.machine, used, offers, now)) is not None:
            passed = slots.passed_over(offers, offer, self._passed, now)
            self._passed = {k: v for k, v in passed.items() if k in by_id}
            if await self.claim(queue, by_id[offer.run_id]):
                return True
            offers = [o for o in offers if o.run_id != offer.run_id]
        return False

    async def _variables(self, run: Run) -> dict[str, Any]:
        """The job variables of a run, by its deployment as it was when last read."""
        if run.deployment_id not in self._deployments:
            await self._deployment(run)
        deployment = self._deployments.get(run.deployment_id, {})
        return jobs.effective(
            self.template, deployment.get("job_variables") or {}, run.job_variables
        )

    @property
    def template(self) -> dict[str, Any]:
        return self.pool.get("base_job_template") or {}

    async def claim(self, queue: str, offered: Run) -> bool:
        """Take one task, and have a supervisor run it. False when somebody else was faster."""
        try:
            run = await runs.read(self.api, offered.id)
        except NotFound:
            return False
        if not lifecycle.is_waiting(run):
            return False
        write = lifecycle.claimed(run, self.name, lifecycle.claim_token())
        claimed_at = time.monotonic()
        taken, deployment = await asyncio.gather(
            claims.take(self.api, run, write), self._deployment(run)
        )
        if not taken:
            return False
        variables = await self._variables(run)
        used = [t.used for t in self.tasks.values()]
        needs = Needs.parse(variables)
        if not slots.free(self.machine, used).fits(needs):
            await self._give_back(run, write.note, "waiting for a machine it fits on")
            return False
        job = Job(
            run_id=run.id,
            task_id=run.task_id,
            name=run.name,
            pool=self.options.pool,
            queue=queue,
            agent=self.name,
            note=str(write.note),
            run_url=self.api.connection.run_url(run.id),
            deployment={
                k: deployment.get(k)
                for k in ("entrypoint", "path", "pull_steps", "storage_document_id")
            },
            variables=variables,
            gpus=slots.pick_gpus(self.machine, used, needs),
            queue_limit=self.lines[queue].queue.limit,
            pool_limit=self.pool.get("concurrency_limit"),
            claimed_at=claimed_at,
        )
        return await self._launch(run, job)

    async def _launch(self, run: Run, job: Job) -> bool:
        folder = claim_folder(self.folder, job.token)
        try:
            folder.write(job)
            await self._follow(Running(folder, job), lease=self.heart.last_beat)
            await self.launcher.launch(folder)
        except (ClearflowError, OSError) as error:
            self.tasks.pop(job.token, None)
            folder.remove()
            await self._give_back(run, job.claim, f"{self.name} could not start it: {error}")
            self.say(f"error: {run.name} could not be started: {error}")
            await asyncio.sleep(1)
            return False
        self.heart.quicken()
        self.say(f"took {shown(run.name)} ({run.task_id}) from {job.queue}")
        return True

    async def _give_back(self, run: Run, note: lifecycle.Note, why: str) -> None:
        await claims.put_back(self.api, run.id, lifecycle.returned(note, run.place, why))

    async def _deployment(self, run: Run) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if run.deployment_id is not None:
            with contextlib.suppress(NotFound):
                found = await deployments.read(self.api, run.deployment_id)
        self._deployments[run.deployment_id] = found
        return found

    # -- what it has -------------------------------------------------------------------------

    async def _follow(self, task: Running, lease: float) -> None:
        self.tasks[task.job.token] = task
        self._changed.set()
        await task.watch(self._ended, lease)

    def _ended(self, task: Running, outcome: str | None) -> None:
        self.tasks.pop(task.job.token, None)
        self._changed.set()
        self._idle_since = time.monotonic()
        self.say(f"{shown(task.job.name)} ({task.job.task_id}): {outcome or 'lost'}")
        if outcome is None:
            self._help(self._lost(task))
        if outcome == "yield":
            asyncio.get_running_loop().call_later(0.2, self.stir, task.job.queue)
        else:
            self._wake.set()

    async def _lost(self, task: Running) -> None:
        """The supervisor went away without a word: its task has ended with it."""
        await loss.lose_dead(self.api, task.rundir.path.parent, by=self.name)
        self.stir(task.job.queue)

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
            queues=tuple(self.lines),
            slots=self.machine.slots,
            gpus=tuple(self.machine.gpus),
            tasks=tuple(sorted(t.job.run_id for t in self.tasks.values())),
            status=self.status,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=metadata.version("clearflow"),
            runtimes=tuple(self.machine.runtimes),
            cpus=self.machine.cpus,
            memory_mb=self.machine.memory_mb,
        )
