"""Runs tasks on real agents while processes are killed and connections cut, and has it judged.

    python -m tests.chaos.driver --seed 1 --tasks 300 [--postgres] [--exclusive] [--no-fence]

The seed sets the order of the faults; what they meet depends on the machine. The folder of a run
that was not as it should be is kept, with the agents' words, the beats, and the faults in time.
"""

import asyncio
import contextlib
import math
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearflow._prefect import pools, runs
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow._prefect.template import base_job_template
from clearflow.tasks import packing, script
from clearflow.tasks.packing import Order
from clearflow.words import lifecycle, scripts
from clearflow.words.models import FINAL, State
from clearflow.words.notes import Note
from tests.chaos import referee
from tests.chaos.plan import CUTS, KILLED, SETTINGS, Fault, Plan, arguments
from tests.chaos.proxy import Line, Proxy
from tests.chaos.referee import Violation
from tests.support.agents import AgentProcess, Client, Found, Site, processes_with
from tests.support.docker import IMAGE, DockerEngine
from tests.support.postgres import PostgresServer
from tests.support.server import PrefectServer, template_database
from tests.support.waiting import WaitedTooLong, wait_until_async

HERE = Path(__file__).parent
MARK = "CF_CHAOS_AGENT"
"""The environment variable that all processes of one agent carry, through all its lives."""

CALM = 180.0
"""Seconds that everything is given to end after the last fault."""


@dataclass
class Outcome:
    """What became of a run."""

    plan: Plan
    folder: Path
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    starts: Counter[int] = field(default_factory=Counter)
    chaos: float = 0.0
    calm: float = 0.0

    def __str__(self) -> str:
        def told(counts: Counter[str] | Counter[int]) -> str:
            return ", ".join(f"{k}: {n}" for k, n in sorted(counts.items())) or "none"

        lines = [
            str(self.plan),
            f"chaos {self.chaos:.0f} s, calm {self.calm:.0f} s",
            f"faults  {sum(self.faults.values())} ({told(self.faults)})",
            f"ends    {told(self.ends)}",
            f"attempt in which a task ended: {told(self.attempts)}",
            f"starts of a task's own code:   {told(self.starts)}",
            *map(str, self.violations),
            f"{len(self.violations)} violations" if self.violations else "all as it should be",
        ]
        return "\n".join(lines)


@dataclass
class Post:
    """One agent through all its lives, and the line by which it reaches the server."""

    name: str
    home: Path
    proxy: Proxy
    site: Site
    env: Mapping[str, str]
    slots: int
    beats: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    agent: AgentProcess | None = None

    def start(self) -> None:
        told = {"slots": self.slots, **self.options}
        self.agent = self.site.agent(
            "q", name=self.name, home=self.home, env=self.env, wait=False, **told
        )

    def processes(self, title: str) -> list[Found]:
        if self.options and title == KILLED["task"]:
            return _with_argument(str(self.beats), title)
        return [p for p in processes_with(MARK, self.env[MARK]) if p.title == title]

    def left(self) -> list[str]:
        """What there is of its tasks: processes, and folders of claims."""
        titles = (KILLED["supervisor"], KILLED["task"])
        found = [f"{t} {p.pid}" for t in titles for p in self.processes(t)]
        return found + [str(p) for p in self.home.glob("agents/*/*") if p.is_dir()]


def _with_argument(word: str, title: str) -> list[Found]:
    """Processes with this word on their command line: those in containers carry no mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            name = (entry / "comm").read_text().strip()
            if word.encode() in words and name == title:
                found.append(Found(int(entry.name), name))
    return found


class Chaos:
    """One run of a plan; with an Engine its scripts run in containers."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        server: PrefectServer,
        api: Api,
        engine: DockerEngine | None = None,
    ) -> None:
        self.plan, self.server, self.api, self.engine = plan, server, api, engine
        self.outcome = Outcome(plan, folder)
        self.beats = folder / "beats"
        self.beats.mkdir()
        self.site = Site(server.url, "chaos", server.env(), folder, scripts=plan.scripts)
        self.posts: list[Post] = []
        self._log = (folder / "faults.log").open("w")
        self._helpers: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._server_up = asyncio.Event()
        self._server_up.set()

    def note(self, text: str) -> None:
        print(f"{time.time():.3f} {text}", file=self._log, flush=True)

    async def run(self) -> Outcome:
        await pools.ensure(self.api, self.site.pool, base_job_template())
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._log.close)
            for number in range(self.plan.agents):
                proxy = await stack.enter_async_context(Proxy(self.server.port))
                self.posts.append(self._post(number, proxy))
            stack.callback(self.site.close)
            tasks = await self._enqueue()
            for post in self.posts:
                post.start()
            keeping = asyncio.create_task(self._keep_agents())
            began = time.monotonic()
            await self._rage()
            raged = time.monotonic()
            await self._calm()
            self.outcome.chaos, self.outcome.calm = raged - began, time.monotonic() - raged
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
            await self._judge(tasks)
        return self.outcome

    def _post(self, number: int, proxy: Proxy) -> Post:
        name = f"agent-{number}"
        env = SETTINGS | {
            MARK: f"{number}-{uuid.uuid4().hex}",
            "PREFECT_API_URL": f"http://127.0.0.1:{proxy.port}/api",
        }
        if not self.plan.fence:
            env["PYTHONPATH"] = str(HERE / "nofence")
        options: dict[str, Any] = {}
        if self.engine is not None:
            env["DOCKER_HOST"] = self.engine.host
            options = {"docker": IMAGE, "docker_args": f"-v {self.beats}:{self.beats}"}
        home = self.outcome.folder / name
        return Post(name, home, proxy, self.site, env, self.plan.slots, self.beats, options)

    async def _enqueue(self) -> list[str]:
        ask = Client(self.site, self.api)
        await pools.create_queue(self.api, self.site.pool, "q")
        job: dict[str, Any] = {"exclusive": True} if self.plan.exclusive else {}
        if self.plan.scripts:
            job |= await self._sent()
            template = await script.template(
                self.api, None, "beats", job, pool=self.site.pool, queue="q"
            )
        else:
            template = await ask.deploy("beating.py:beats", "q", path=HERE, **job)
        self.note("queueing")
        created: list[str] = []
        for seconds in self.plan.seconds():
            run = await runs.create(
                self.api,
                template,
                write=lifecycle.queued(Note("queued by chaos", by="chaos")),
                queue="q",
                parameters=self._parameters(seconds),
                job_variables=job,
            )
            created.append(run.id)
        return created

    def _parameters(self, seconds: float) -> dict[str, Any]:
        if self.plan.scripts:
            return {scripts.ARGUMENTS: [str(self.beats), str(seconds)]}
        return {"folder": str(self.beats), "seconds": seconds}

    async def _sent(self) -> dict[str, Any]:
        """The script, from a folder in which there is nothing else."""
        folder = self.outcome.folder / "laptop"
        folder.mkdir()
        file = Path(shutil.copy(HERE / "beating_script.py", folder / "beats.py"))
        packed = await asyncio.to_thread(packing.pack, Order(file), folder / "snapshot")
        return await script.send(self.api, packed, progress=lambda done, total: None)

    # -- faults ------------------------------------------------------------------------------

    async def _rage(self) -> None:
        """Until all tasks have ended, or the time is up."""
        ended = asyncio.create_task(self._until_ended())
        deadline = time.monotonic() + self.plan.minutes * 60
        for fault in self.plan.faults():
            await asyncio.wait({ended}, timeout=fault.after)
            failed = any(t.done() for t in self._helpers)
            if ended.done() or failed or time.monotonic() > deadline:
                break
            if self._strike(fault):
                self.outcome.faults[fault.kind] += 1
                self.note(f"{fault.kind} agent-{fault.agent} {fault.seconds:.2f}")
        self._over.set()
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)

    def _strike(self, fault: Fault) -> bool:
        """Whether there was anything to strike."""
        post = self.posts[fault.agent]
        if fault.kind == "server":
            if not self._server_up.is_set():
                return False
            self._help(self._kill_server(fault.seconds))
        elif fault.kind == "agent":
            if post.agent is None or post.agent.code is not None:
                return False
            post.agent.kill()
        elif fault.kind == "reset":
            post.proxy.reset()
        elif fault.kind in CUTS:
            mode = Line.HOLD if fault.kind.endswith("hold") else Line.HOLE
            if not post.proxy.passes:
                return False
            self._help(self._cut(post.proxy, mode, fault.seconds))
        else:
            found = post.processes(KILLED[fault.kind])
            if not found:
                return False
            found[int(fault.which * len(found))].kill()
        return True

    async def _cut(self, proxy: Proxy, mode: Line, seconds: float) -> None:
        with proxy.cut(mode):
            await self._lasts(seconds)

    async def _lasts(self, seconds: float) -> None:
        """So long, or until chaos is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    async def _kill_server(self, seconds: float) -> None:
        self._server_up.clear()
        await asyncio.to_thread(self.server.kill)
        await self._lasts(seconds / 2)
        self.note("server starts again")
        # Its start takes seconds, and minutes on a machine that has much else to do.
        await asyncio.to_thread(self.server.start, 300)
        self.note("server answers")
        self._server_up.set()

    def _help(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._helpers.add(task)
        task.add_done_callback(self._helped)

    def _helped(self, task: asyncio.Task[None]) -> None:
        """One that failed is kept: it is told when all are waited for."""
        if task.cancelled() or task.exception() is None:
            self._helpers.discard(task)

    async def _keep_agents(self) -> None:
        """Start again whoever has ended, a moment later."""

        async def one_has_ended() -> bool:
            return any(p.agent is not None and p.agent.code is not None for p in self.posts)

        while True:
            for post in self.posts:
                agent = post.agent
                if agent is None or agent.code is None:
                    continue
                if agent.code >= 0 and " serves " in agent.said():
                    # One that has come up survives everything but its own death.
                    said = agent.said().strip().splitlines()[-1:]
                    what = f"ended with {agent.code}: {' '.join(said)}"
                    self.outcome.violations.append(Violation("agent ended", post.name, what))
                self.note(f"{post.name} starts again")
                post.start()
            await wait_until_async(one_has_ended, math.inf, every=0.5)

    # -- the end -----------------------------------------------------------------------------

    async def _until_ended(self, timeout: float = 3600) -> None:
        unfinished = {"state": {"type": {"not_any_": sorted(FINAL)}}}

        async def ended() -> bool:
            return await runs.count(self.api, unfinished, pool=self.site.pool) == 0

        await wait_until_async(ended, timeout, what="all tasks to end", every=0.5)

    async def _calm(self) -> None:
        """No more faults: everything gets the time it needs."""
        self.note("calm")
        await asyncio.gather(*self._helpers)
        self.note("no fault is left")
        with contextlib.suppress(WaitedTooLong):
            await self._until_ended(CALM if self.plan.fence else 40)  # else it is a loss
        with contextlib.suppress(WaitedTooLong):
            await wait_until_async(
                self._nothing_left, 60 if self.plan.fence else 10, what="the agents to be idle"
            )

    async def _nothing_left(self) -> bool:
        return not any(post.left() for post in self.posts) and not self._containers()

    def _containers(self) -> list[str]:
        """Containers and mounts that are left."""
        if self.engine is None:
            return []
        names = [f"container {each['Names'][0]}" for each in self.engine.containers()]
        return names + self.engine.mounts()

    async def _judge(self, tasks: Sequence[str]) -> None:
        outcome = self.outcome
        for post in self.posts:
            outcome.violations += [Violation("left over", post.name, w) for w in post.left()]
        outcome.violations += [Violation("left over", "engine", w) for w in self._containers()]
        histories: dict[str, list[State]] = {}
        for task in tasks:
            histories[task] = await runs.history(self.api, task)
        stretches = referee.read(self.beats)
        outcome.violations += referee.judge(tasks, stretches, histories)
        outcome.ends = Counter(h[-1].name for h in histories.values())
        outcome.attempts = referee.attempts(histories)
        outcome.starts = referee.starts(stretches)
        with (outcome.folder / "histories.txt").open("w") as file:
            for task in {v.task for v in outcome.violations} & set(histories):
                print(task, file=file)
                for s in histories[task]:
                    at = s.at.timestamp() if s.at else 0.0
                    print(f"  {at:.3f} {s.type} {s.name} {s.message}", file=file)
                for stretch in (s for s in stretches if s.task == task):
                    print(f"  {stretch}", file=file)


async def chaos(
    plan: Plan,
    folder: Path,
    database_url: str | None = None,
    engine: DockerEngine | None = None,
) -> Outcome:
    """Run a plan in an empty folder. `database_url` of a PostgreSQL database, else SQLite.

    A plan with containers needs an Engine that has the image.
    """
    template = None if database_url else await asyncio.to_thread(template_database)
    server = PrefectServer(folder / "server", template=template, database_url=database_url)
    async with _started(server), Api(Connection(server.url), give_up_after=None) as api:
        return await Chaos(plan, folder, server, api, engine).run()


@contextlib.asynccontextmanager
async def _started(server: PrefectServer) -> AsyncIterator[None]:
    await asyncio.to_thread(server.start, 300)
    try:
        yield
    finally:
        await asyncio.to_thread(server.stop)


@contextlib.contextmanager
def _database(postgres: bool) -> Iterator[str | None]:
    if not postgres:
        yield None
        return
    with PostgresServer() as cluster:
        yield cluster.create_database("chaos")


@contextlib.contextmanager
def _engine(wanted: bool) -> Iterator[DockerEngine | None]:
    if not wanted:
        yield None
        return
    with DockerEngine() as engine:
        engine.make_image()
        yield engine


def main() -> int:
    plan = arguments()
    folder = Path(tempfile.mkdtemp(prefix="clearflow-chaos-"))
    print(f"{plan}\nin {folder}", flush=True)
    # However it is ended, nothing is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _database(plan.postgres) as url, _engine(plan.docker) as engine:
        outcome = asyncio.run(chaos(plan, folder, url, engine))
    print(outcome)
    if outcome.violations:
        print(f"see {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
