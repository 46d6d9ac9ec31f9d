"""Taking tasks: which queue to ask, what fits, and from the claim to the supervisor's start."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from clearflow._prefect import claims, deployments, pools, runs
from clearflow._prefect.http import Api
from clearflow.agent import choose, slots
from clearflow.agent.options import AgentOptions
from clearflow.agent.slots import Used
from clearflow.errors import ClearflowError, NotFound
from clearflow.runtimes.clearing import DOCKER, PROCESS
from clearflow.runtimes.rundir import Job
from clearflow.words import jobs, lifecycle
from clearflow.words.models import SCHEDULED, Machine, Needs, Queue, Run, State
from clearflow.words.notes import Note
from clearflow.words.scripts import Script

OFFERED = 20
FRESH = 0.2  # seconds in which an offer is as good as another look
REMEMBERED = 1000  # states of waiting runs
SOON = timedelta(seconds=1)  # how far the estimate of the server's time may be behind


@dataclass
class Line:
    """A queue as its agent knows it.

    `stirred`: there may be something to take. `unfit`: the last time there was, none of it fitted.
    `reach` is the place of the last task that was offered, of a line that goes on behind it.
    """

    queue: Queue
    stirred: bool = True
    unfit: bool = False
    reach: datetime | None = None


class Taker:
    """Takes tasks for an agent.

    `used()` says what its tasks hold, `start(job)` has a supervisor run a claim and raises
    ClearflowError or OSError when it cannot.
    """

    def __init__(
        self,
        api: Api,
        options: AgentOptions,
        name: str,
        machine: Machine,
        used: Callable[[], Sequence[Used]],
        start: Callable[[Job], Awaitable[None]],
    ) -> None:
        self.api, self.options, self.name, self.machine = api, options, name, machine
        self._used, self._start = used, start
        self.lines: dict[str, Line] = {}
        self.pool: dict[str, Any] = {}
        self.next_due: datetime | None = None
        self._states: dict[str, State] = {}  # of waiting runs, as events told
        self._passed: dict[str, datetime] = {}
        self._deployments: dict[str | None, dict[str, Any]] = {}
        self._last_queue: str | None = None

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
                    raise NotFound(missing.message, hint="--create-queue makes it") from None
                queue = await pools.ensure_queue(self.api, self.options.pool, name)
            self.lines[queue.name] = Line(queue)

    def stir(self, queue: str | None = None) -> None:
        """There may be something to take, in one queue or in any."""
        for name, line in self.lines.items():
            if queue is None or name == queue:
                line.stirred = True

    def heard(self, run_id: str, state: State | None) -> None:
        """An event told the state of a run: it need not be asked for when the run is offered."""
        self._states.pop(run_id, None)
        if state is not None and state.type == SCHEDULED:
            self._states[run_id] = state
            if len(self._states) > REMEMBERED:
                del self._states[next(iter(self._states))]

    def freed(self) -> None:
        """A task has ended: what did not fit may do so now."""
        for line in self.lines.values():
            line.stirred = line.stirred or line.unfit

    async def take_one(self) -> bool:
        """Take the first task that fits, in this agent's order of queues. False for none."""
        used = self._used()
        if slots.free(self.machine, used).slots < 1:
            return False
        self.next_due = None
        names = choose.order(list(self.lines), self.options.fairness, self._last_queue)
        for name in names:
            line = self.lines[name]
            if not line.stirred:
                continue
            line.stirred = False
            try:
                taken = await self._take_offered(name)
            except NotFound:
                await self._forget(name)
                continue
            if taken:
                line.stirred = True
                self._last_queue = name
                return True
        return False

    async def _take_offered(self, name: str) -> bool:
        """Take what the server offers of a queue. False for nothing that fits.

        To find the first of a long line the server looks at all of it, unless it is told how far
        to look. Who has come to stand in front of the last one that was offered is found as well.
        """
        line = self.lines[name]
        if line.reach is not None:
            if await self._take_from(name, await self._offered(name, line.reach), time.monotonic()):
                return True
            line.reach = None
        due = self._due(await self._offered(name, None))
        if len(due) == OFFERED:
            line.reach = due[-1].place
        line.unfit = bool(due)
        return await self._take_from(name, due, time.monotonic())

    async def _offered(self, name: str, before: datetime | None) -> list[Run]:
        pool = self.options.pool
        return await pools.offered(self.api, pool, [name], limit=OFFERED, before=before)

    async def _forget(self, name: str) -> None:
        """A queue was deleted. Raises NotFound when that was the last, or the pool is gone too."""
        await pools.read(self.api, self.options.pool)
        del self.lines[name]
        if not self.lines:
            raise NotFound(f"the queue {name!r} was deleted, and this agent serves no other")

    def _due(self, offered: list[Run]) -> list[Run]:
        """Those that may start now; the first of the others sets the alarm."""
        horizon = self.api.clock.now() + SOON
        later = [r.place for r in offered if r.place is not None and r.place > horizon]
        if later:
            first = min(later)
            self.next_due = min(first, self.next_due or first)
        return [r for r in offered if r.place is None or r.place <= horizon]

    async def _take_from(self, queue: str, due: list[Run], asked: float) -> bool:
        now = self.api.clock.now()
        wanted = {r.id: await self._variables(r) for r in due}
        offers = [slots.Offer(r.id, Needs.parse(wanted[r.id]), self._passed.get(r.id)) for r in due]
        by_id = {r.id: r for r in due}
        used = self._used()
        while (offer := slots.choose(self.machine, used, offers, now)) is not None:
            passed = slots.passed_over(offers, offer, self._passed, now)
            self._passed = {k: v for k, v in passed.items() if k in by_id}
            run = await self._as_it_stands(by_id[offer.run_id], asked)
            if run is not None and lifecycle.is_waiting(run) and await self.claim(queue, run):
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

    async def _as_it_stands(self, offered: Run, asked: float) -> Run | None:
        """A run with its state: read, unless the offer is of this moment and the state is known."""
        known = self._states.get(offered.id)
        if (
            known is not None
            and offered.state is not None
            and known.id == offered.state.id
            and time.monotonic() - asked < FRESH
        ):
            return replace(offered, state=known)
        try:
            return await runs.read(self.api, offered.id)
        except NotFound:
            return None

    async def claim(self, queue: str, run: Run) -> bool:
        """Take one task, and have a supervisor run it. False when somebody else was faster."""
        write = lifecycle.claimed(run, self.name, lifecycle.claim_token())
        claimed_at = time.monotonic()
        taken, deployment = await asyncio.gather(
            claims.take(self.api, run, write), self._deployment(run)
        )
        if not taken:
            return False
        variables = await self._variables(run)
        used = self._used()
        needs = Needs.parse(variables)
        able = slots.could_ever_run(self.machine, needs)
        if not able or not slots.free(self.machine, used).fits(needs):
            await self._give_back(run, write.note, "waiting for a machine it fits on")
            return False
        policy = self.options.containers
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
            variables=self._as_it_runs_here(variables),
            gpus=slots.pick_gpus(self.machine, used, needs),
            queue_limit=self.lines[queue].queue.limit,
            pool_limit=self.pool.get("concurrency_limit"),
            claimed_at=claimed_at,
            runtime=self._runtime(needs, variables),
            docker=policy.dump() if policy else {},
        )
        return await self._launch(run, job)

    def _as_it_runs_here(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """What a task asks for, but for the environment where it gets the agent's."""
        left_out = {"requirements", "python_version"} if self.options.own_environment else set()
        return {k: v for k, v in variables.items() if k not in left_out}

    def _runtime(self, needs: Needs, variables: Mapping[str, Any]) -> str:
        """Where a task runs: where it asks to, else scripts in Docker if this agent has it."""
        in_docker = self.options.containers is not None and Script.of(variables) is not None
        return needs.runtime or (DOCKER if in_docker else PROCESS)

    async def _launch(self, run: Run, job: Job) -> bool:
        try:
            await self._start(job)
        except (ClearflowError, OSError) as error:
            await self._give_back(run, job.claim, f"{self.name} could not start it: {error}")
            raise ClearflowError(f"{run.name} could not be started: {error}") from error
        return True

    async def _give_back(self, run: Run, note: Note, why: str) -> None:
        await claims.put_back(self.api, run.id, lifecycle.returned(note, run.place, why))

    async def _deployment(self, run: Run) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if run.deployment_id is not None:
            with contextlib.suppress(NotFound):
                found = await deployments.read(self.api, run.deployment_id)
        self._deployments[run.deployment_id] = found
        return found
