"""A small world of agents, movers and sweepers whose requests are let through one by one.

The actors call the real functions of `clearflow/_prefect`. The test decides whose next request
reaches the server, whose answer is lost, who is killed or cut off, and when time passes; the
`Referee` watches what the server has, and what the actors do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from clearflow._prefect import claims, pools, runs
from clearflow._prefect.claims import Limits
from clearflow._prefect.http import Api
from clearflow.words import lifecycle, losing, order
from clearflow.words.lifecycle import Exit, Standing, Taken, Write
from clearflow.words.models import ACTIVE, PAUSED, SCHEDULED, Run
from clearflow.words.notes import Note
from tests.properties.referee import Referee
from tests.properties.server import POOL, QUEUE, Server

SILENCE = timedelta(seconds=30)
LEASE = SILENCE * 2 / 3
"""How long after a heartbeat a machine knows that nobody can have declared its tasks lost."""
ARRIVAL = SILENCE / 6
"""How long a request can be on its way, after its sender has given it up."""
MAX_ATTEMPTS = 2


@dataclass
class Machine:
    """An agent: its heartbeats, and the claims it knows of."""

    name: str
    beat: float = 0.0
    cut: bool = False
    alive: bool = True
    claims: set[str] = field(default_factory=set)
    recovered: float = -1e9

    def beats(self, now: float) -> None:
        """It says that it lives."""
        if now - self.beat >= SILENCE.total_seconds():
            self.recovered = now
        self.beat = now

    def lately_silent(self, now: float) -> bool:
        """Whether somebody may rightly take it for dead, or has just done so."""
        just_now = now - self.recovered <= 2 * ARRIVAL.total_seconds()
        return just_now or now - self.beat >= SILENCE.total_seconds()


@dataclass
class Letter:
    """A request on its way to the server."""

    request: httpx.Request
    sent: float
    verdict: asyncio.Future[str]


class Wire(httpx.AsyncBaseTransport):
    """What one actor's requests go through."""

    def __init__(self, world: World, machine: Machine | None) -> None:
        self._world, self._machine = world, machine
        self.ahead = 0.0
        self.letter: Letter | None = None
        self.answer: asyncio.Future[None] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        loop = self._world.loop
        self.letter = letter = Letter(request, loop.time(), loop.create_future())
        try:
            verdict = await letter.verdict
        except asyncio.CancelledError:
            # Given up, or its sender killed: it may arrive all the same.
            self._world.late.append(letter)
            raise
        finally:
            self.letter = None
        if verdict == "refused" or (self._machine is not None and self._machine.cut):
            raise httpx.ConnectError("nobody answers", request=request)
        answer = await self._world.arrive(request, self.ahead)
        if verdict == "unheard":
            raise httpx.ReadError("the answer is lost", request=request)
        if verdict == "slow":
            self.answer = loop.create_future()
            try:
                await self.answer
            finally:
                self.answer = None
        return answer


def _words(request: httpx.Request) -> str:
    """What a request is about, for people."""
    body = json.loads(request.content) if request.content else {}
    state = body.get("state")
    if isinstance(state, dict):
        return f"writes {state['name']}, {state['message'].split(' [')[0]}"
    return f"{request.method} {request.url.path[:16]}..{request.url.path[-12:]}"


class Actor:
    """Somebody who acts, and can be stopped between any two requests."""

    def __init__(
        self, world: World, name: str, work: Callable[[Actor, Api], Coroutine[Any, Any, None]],
        machine: Machine | None, late: float,
    ) -> None:  # fmt: skip
        self.name, self.machine, self.world = name, machine, world
        self.wire = Wire(world, machine)
        self.api = world.server.api(self.wire, late)
        self.token: str | None = None
        self.task = world.loop.create_task(work(self, self.api))

    def __repr__(self) -> str:
        return self.name

    @property
    def done(self) -> bool:
        return self.task.done()


class World:
    """Agents, tasks and whoever acts on them."""

    def __init__(
        self, server: Server, *, tasks: int, agents: int, limit: int | None = None
    ) -> None:
        self.server, self.loop, self.limit = server, server.loop, limit
        server.reset(limit)
        self.tasks = [server.add(f"task-{n}") for n in range(tasks)]
        self.machines = [Machine(f"box:{n}", self.loop.time()) for n in range(agents)]
        self.actors: list[Actor] = []
        self.late: list[Letter] = []
        self.broken = False
        self.log: list[str] = []
        self._arriving: set[asyncio.Task[Any]] = set()
        self.referee = Referee(server, limit, MAX_ATTEMPTS)

    # -- what the test decides ---------------------------------------------------------------

    def start(
        self,
        name: str,
        work: Callable[[Actor, Api], Coroutine[Any, Any, None]],
        machine: Machine | None = None,
        late: float = 0.0,
    ) -> Actor:
        actor = Actor(self, name, work, machine, late)
        self.actors.append(actor)
        self._run(self._until_quiet())
        return actor

    def step(self, actor: Actor, verdict: str = "arrives") -> None:
        """One request of an actor, or one answer.

        It arrives, is refused, arrives and is never answered ("unheard"), or is answered with the
        next step ("slow").
        """
        if actor.done:
            return
        if actor.wire.answer is not None:
            self._tell(actor, "hears")
            actor.wire.answer.set_result(None)
        elif actor.wire.letter is not None:
            self._tell(actor, _words(actor.wire.letter.request), verdict)
            actor.wire.letter.verdict.set_result(verdict)
        else:
            self.pass_time(0.3)
            return
        self._run(self._until_quiet())

    def steps(self, actor: Actor, count: int) -> None:
        for _ in range(count):
            self.step(actor)

    def until(self, actor: Actor, word: str) -> None:
        """Until an actor is about to send a request that has this word in it."""
        for _ in range(100):
            letter = actor.wire.letter
            if letter is not None and word in f"{letter.request.url} {letter.request.content!r}":
                return
            self.step(actor)
        raise LookupError(f"{actor} does not say {word}")

    def finish(self, actor: Actor) -> None:
        """Let an actor go on to its end."""
        self.steps(actor, 200)
        assert actor.done, f"{actor} does not come to an end"

    def kill(self, actor: Actor) -> None:
        """It stops here and now; what it has sent may still arrive."""
        if actor.done:
            return
        self._tell(actor, "is killed")
        actor.task.cancel()
        self._run(self._until_quiet())
        if actor.token is not None:
            self.referee.user_code_stopped(actor.token)

    def kill_machine(self, machine: Machine) -> None:
        machine.alive = False
        for actor in self.actors:
            if actor.machine is machine:
                self.kill(actor)
        machine.claims.clear()

    def revive(self, machine: Machine) -> None:
        """It starts again under its name, and looks for claims it does not know of."""
        machine.alive, machine.cut = True, False
        self._beat()
        self.start(f"{machine.name} looks for forgotten claims", self.forgotten(machine), machine)

    def restart_server(self, heard: int) -> None:
        """Requests on their way arrive, by the bits of `heard`, or not; no answer does."""
        for number, actor in enumerate(list(self.actors)):
            if not actor.done and actor.wire.letter is not None:
                self.step(actor, "unheard" if heard >> number & 1 else "refused")

    def arrives_late(self, letter: Letter) -> None:
        self.late.remove(letter)
        if self.loop.time() - letter.sent <= ARRIVAL.total_seconds():
            self._tell("late", _words(letter.request))
            self._run(self.arrive(letter.request))
        self.referee.look()

    def pass_time(self, seconds: float) -> None:
        """Time passes in short strides, and machines that are not cut off say that they live."""
        left = seconds
        while left > 0:
            self.loop.moment += min(left, 2.0)
            left -= 2.0
            self._beat()
            self._run(self._until_quiet())

    def settle(self) -> None:
        """Everybody comes to their end, what was lost is found, and all tasks are run."""
        for machine in self.machines:
            machine.cut = False
        self._beat()
        self._everybody()
        for machine in self.machines:
            if not machine.alive:
                self.revive(machine)
        for _ in range(6):
            if not self._somebody_has_a_task():
                break
            self.pass_time(SILENCE.total_seconds() + 1)
            for machine in self.machines:
                self.start(f"{machine.name} looks", self.forgotten(machine), machine)
            self.start("sweeper", self.sweeper)
            self._everybody()
        if self._somebody_has_a_task():
            self._give_up_cancelling()
        for number in range(4 * len(self.tasks)):
            if not self.line():
                break
            machine = self.machines[number % len(self.machines)]
            self.start(f"{machine.name} drains", self.agent(machine, 0, Exit(code=0), 0), machine)
            self._everybody()
        self.referee.all_is_over(self.line())

    def _somebody_has_a_task(self) -> bool:
        return any(states[-1].type in ACTIVE for states in self.server.states().values())

    def close(self) -> None:
        for actor in self.actors:
            actor.task.cancel()
        self._run(self._close())

    def _tell(self, who: object, *what: str) -> None:
        self.log.append(f"{self.loop.time():7.1f} {who}: {' '.join(what)}")

    # -- how it is done ----------------------------------------------------------------------

    async def _close(self) -> None:
        await asyncio.gather(*(a.task for a in self.actors), return_exceptions=True)
        for actor in self.actors:
            await actor.api.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            self.server.run(work)
        except AssertionError:
            self.broken = True
            raise

    async def _until_quiet(self) -> None:
        """Until everybody waits for the test: with a request, or for time to pass."""
        while True:
            await asyncio.sleep(0)
            if self._arriving:
                await asyncio.wait(self._arriving)
            elif self.loop.idle:
                break
        for actor in self.actors:
            if actor.done and not actor.task.cancelled():
                actor.task.result()
        self.referee.look()

    async def arrive(self, request: httpx.Request, ahead: float = 0.0) -> httpx.Response:
        """The server answers; one whose clock is so much ahead of that of the others."""
        if request.url.path.endswith("/workers/filter"):
            return httpx.Response(200, json=self._workers(), request=request)

        async def answered() -> httpx.Response:
            self.server.clock.ahead = ahead
            response = await self.server.transport.handle_async_request(request)
            content = await response.aread()
            self.server.clock.ahead = 0.0
            headers = {k: v for k, v in response.headers.items() if k == "content-type"}
            return httpx.Response(
                response.status_code, content=content, headers=headers, request=request
            )

        work = asyncio.ensure_future(answered())
        self._arriving.add(work)
        work.add_done_callback(self._arriving.discard)
        return await asyncio.shield(work)

    def _workers(self) -> list[dict[str, Any]]:
        return [
            {
                "name": m.name,
                "last_heartbeat_time": self.server.clock.at(m.beat).isoformat(),
                "status": "ONLINE",
            }
            for m in self.machines
        ]

    def _beat(self) -> None:
        for machine in self.machines:
            if machine.alive and not machine.cut:
                machine.beats(self.loop.time())

    def _everybody(self) -> None:
        for _ in range(3000):
            waiting = [a for a in self.actors if not a.done]
            if not waiting:
                self.actors = []
                return
            for actor in waiting:
                self.step(actor)
        raise AssertionError(f"they do not come to an end: {waiting}")

    def _give_up_cancelling(self) -> None:
        """What Prefect does itself with what nobody has stopped after five minutes."""

        async def give_up(actor: Actor, api: Api) -> None:
            for run_id, states in self.server.states().items():
                if states[-1].type == "CANCELLING" and states[-1].note.claim is None:
                    write = Write("CANCELLED", "Cancelled", Note("given up"))
                    await runs.propose(api, run_id, write)

        self.pass_time(300)
        self.start("prefect", give_up)
        self._everybody()

    def line(self) -> list[str]:
        """The runs that wait, in order."""
        states = self.server.states()
        waiting = [(s[-1].place, run) for run, s in states.items() if s[-1].type == SCHEDULED]
        return [run for _, run in sorted(waiting, key=lambda pair: pair[0] or self.now())]

    def now(self) -> datetime:
        return self.server.clock.peek()

    def heard(self, machine: Machine, claimed_at: float) -> bool:
        """A supervisor's lease."""
        return self.loop.time() - max(machine.beat, claimed_at) < LEASE.total_seconds()

    def may_be_lost(self, machine: Machine, token: str) -> bool:
        """Whether its supervisor is dead, or its machine taken for dead."""
        return token not in machine.claims or machine.lately_silent(self.loop.time())

    def silent(self, machine: Machine) -> bool:
        return self.loop.time() - machine.beat >= SILENCE.total_seconds()

    # -- actors ------------------------------------------------------------------------------

    def agent(self, machine: Machine, choice: int, ended: Exit, length: int) -> Any:
        """Takes a task and runs it for so many looks at its claim."""

        async def work(actor: Actor, api: Api) -> None:
            soon = api.clock.now() + timedelta(seconds=2)
            offered = await pools.offered(api, POOL, [QUEUE], limit=3, before=soon)
            if not offered:
                return
            run = await runs.read(api, offered[choice % len(offered)].id)
            if not lifecycle.is_waiting(run):
                return
            write = lifecycle.claimed(run, machine.name, token := lifecycle.claim_token())
            claimed_at = self.loop.time()
            machine.claims.add(token)
            self.referee.claimed(token, lambda: self.may_be_lost(machine, token))
            try:
                if await claims.take(api, run, write):
                    await self._supervise(
                        actor, machine, run, write.note, claimed_at, ended, length
                    )
            finally:
                machine.claims.discard(token)

        return work

    async def _supervise(
        self, actor: Actor, machine: Machine, run: Run, note: Note, claimed_at: float,
        ended: Exit, length: int,
    ) -> None:  # fmt: skip
        api, token = actor.api, note.claim or ""
        by = f"{machine.name}/{token}"

        def leased() -> bool:
            return self.heard(machine, claimed_at)

        verdict, before = await claims.confirm(api, run.id, token)
        if verdict is not Taken.MINE:
            return
        limits = Limits(queue=self.limit)
        if self.limit is not None and not await claims.admit(api, run, POOL, QUEUE, limits):
            back = lifecycle.returned(note, before.place if before else None, "waits for a slot")
            await claims.put_back(api, run.id, back)
            return
        where = await claims.begin(api, run.id, note, by=by, leased=leased, stale_after=SILENCE)
        if where is Standing.MINE:
            actor.token = token
            self.referee.user_code_started(run.id, token, lambda: self.silent(machine))
            for _ in range(length):
                await asyncio.sleep(1.0)
                where, _ = await claims.standing(api, run.id, token)
                if where is not Standing.MINE:
                    break
            self.referee.user_code_stopped(token)
        if where is Standing.GONE:
            return
        if ended.signal == "SIGTERM":
            place = await claims.front(api, run)
            end = losing.given_back(note, "its agent stopped", place)
        else:
            end = lifecycle.outcome(ended, note)
        await claims.finish(
            api, run.id, end, token=token, by=by, leased=leased, stale_after=SILENCE
        )

    async def sweeper(self, actor: Actor, api: Api) -> None:
        """Loses the tasks of silent machines."""
        active = await self._active(api)
        beats = await self._beats(api)
        for run in active:
            if losing.is_lost(run, beats, api.clock.now(), SILENCE):

                async def still(fresh: Run) -> bool:
                    latest = await self._beats(api)
                    return losing.is_lost(fresh, latest, api.clock.now(), SILENCE)

                await claims.lose(
                    api, run, "silent", by=actor.name, max_attempts=MAX_ATTEMPTS,
                    stale_after=SILENCE, still=still,
                )  # fmt: skip

    def forgotten(self, machine: Machine) -> Any:
        """Loses claims in a machine's name that it does not know of: their supervisors died."""

        async def work(actor: Actor, api: Api) -> None:
            for run in await self._active(api):
                if run.note.agent == machine.name and run.note.claim not in machine.claims:
                    await claims.lose(
                        api, run, "its supervisor died", by=machine.name,
                        max_attempts=MAX_ATTEMPTS, stale_after=SILENCE,
                    )  # fmt: skip

        return work

    async def _active(self, api: Api) -> list[Run]:
        types = {"state": {"type": {"any_": sorted(ACTIVE)}}}
        return [r async for r in runs.find(api, types, pool=POOL)]

    async def _beats(self, api: Api) -> dict[str, datetime | None]:
        return {w.name: w.heartbeat for w in await pools.workers(api, POOL)}

    def mover(self, choice: int, index: int) -> Any:
        """Moves a waiting task to a place in the line."""

        async def work(actor: Actor, api: Api) -> None:
            line = await self._waiting(api)
            if not line:
                return
            run = line.pop(choice % len(line))
            places = [r.place for r in line if r.place is not None]
            target = index % (len(line) + 1)
            for position, place in order.insert(places, target, api.clock.now()):
                await self._move(api, run if position == target else line[position], place)

        return work

    async def _move(self, api: Api, run: Run, place: datetime) -> None:
        note = await claims.hold(api, run, "bob", "moving")
        if note is not None:
            await claims.put_back(api, run.id, lifecycle.returned(note, place, "moved by bob"))

    async def _waiting(self, api: Api) -> list[Run]:
        types = {"state": {"type": {"any_": [SCHEDULED]}}}
        found = runs.find(api, types, pool=POOL, queue=QUEUE, sort=runs.BY_PLACE)
        return [r async for r in found if lifecycle.is_waiting(r)]

    def aborter(self, task: str) -> Any:
        async def work(actor: Actor, api: Api) -> None:
            await claims.abort(api, task, "eve")

        return work

    def canceller(self, task: str) -> Any:
        """Somebody who presses Cancel in Prefect's UI."""

        async def work(actor: Actor, api: Api) -> None:
            write = Write("CANCELLING", "Cancelling", Note(""))
            await runs.propose(api, task, write)

        return work

    def drafter(self, task: str) -> Any:
        """Takes a task out of its line."""

        async def work(actor: Actor, api: Api) -> None:
            run = await runs.read(api, task)
            if not lifecycle.is_waiting(run):
                return
            note = await claims.hold(api, run, "bob", "taking it out of the queue")
            if note is not None:
                await claims.put_back(api, task, lifecycle.drafted("bob", note.claim))

        return work

    def queuer(self, task: str) -> Any:
        """Queues a draft, or a task that was aborted, failed or crashed."""

        async def work(actor: Actor, api: Api) -> None:
            run = await runs.read(api, task)
            if run.state is None or run.state.type not in {
                PAUSED,
                "CANCELLED",
                "FAILED",
                "CRASHED",
            }:
                return
            write = lifecycle.enqueued("bob", api.clock.now())
            await claims.requeue(api, run, write, by="bob")

        return work
