"""Real agents in processes of their own, and a corner of a server for them to serve."""

import asyncio
import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearflow._prefect import deployments, logs, pools, runs
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow._prefect.template import base_job_template
from clearflow.runtimes.rundir import RunDir
from clearflow.tasks import packing, script
from clearflow.tasks.packing import Order, Packed
from clearflow.words import lifecycle, scripts
from clearflow.words.models import Run, State
from clearflow.words.notes import Note
from tests.support.waiting import WaitedTooLong, wait_until, wait_until_async

FLOWS = Path(__file__).parents[1] / "flows"
PLAIN = Path(__file__).parents[1] / "scripts" / "plain.py"

ENDED = ("completed", "failed", "crashed", "aborted")

MARK = "CF_TEST_AGENT"
"""The environment variable that everything an agent has started inherits from it."""

AGENT = """
import json, sys
from clearflow.agent.main import run
from clearflow.agent.options import AgentOptions
options = json.loads(sys.argv[1])
lists = {k: tuple(v) for k, v in options.items() if isinstance(v, list)}
run(AgentOptions(**{**options, **lists}))
"""

QUICK = {
    "CLEARFLOW_HEARTBEAT": "1",
    "CLEARFLOW_SILENCE": "12",
    "CLEARFLOW_IDLE_ASK": "10",
    "CLEARFLOW_OUTAGE_GRACE": "3",
    "CLEARFLOW_GRACE": "5",
    "CLEARFLOW_DRAIN": "60",
}
"""Settings of agents under test: nobody waits for minutes, and a busy machine is no outage."""

LOSING = QUICK | {
    "CLEARFLOW_HEARTBEAT": "0.5",
    "CLEARFLOW_SILENCE": "5",
    # Longer than anybody waits between two tries to reach the server.
    "CLEARFLOW_OUTAGE_GRACE": "8",
}
"""Settings for tests that wait until somebody is declared lost."""


@dataclass
class Found:
    """A process of an agent: its own, its launcher's, a supervisor's or a task's."""

    pid: int
    title: str

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def processes_with(name: str, value: str) -> list[Found]:
    """The live processes that carry this environment variable."""
    wanted = f"{name}={value}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(Found(int(entry.name), (entry / "comm").read_text().strip()))
    return found


class AgentProcess:
    """`clearflow agent start` as a process; its talk is in `log`."""

    def __init__(
        self,
        env: Mapping[str, str],
        log: Path,
        options: Mapping[str, Any],
        program: Sequence[str] = (sys.executable, "-c", AGENT),
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.log = log
        self.name = str(options.get("name") or "")
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*program, json.dumps(dict(options))],
                env={**env, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def said(self) -> str:
        """What this process has said so far."""
        with self.log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Until it has said something."""

        def look() -> bool:
            ended = self.code  # before what it said is read: it may say that as the last thing
            if text in self.said():
                return True
            if ended is not None:
                raise AssertionError(f"the agent ended with {ended}:\n{self.said()}")
            return False

        wait_until(look, timeout, what=f"the agent to say {text!r}")

    def serving(self) -> "AgentProcess":
        self.wait_for(" serves ", timeout=180)
        return self

    def signal(self, number: int) -> None:
        if self.code is None:
            self._process.send_signal(number)

    def wait(self, timeout: float = 60) -> int:
        """The exit code, once it has ended."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise WaitedTooLong(f"the agent has not ended in {timeout} s:\n{self.said()}") from None

    def stop(self, timeout: float = 60) -> int:
        """Have it give its tasks back and exit."""
        self.signal(signal.SIGTERM)
        self.wait_for("is draining")
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """Kill -9, this one process only."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def processes(self, title: str | None = None) -> list[Found]:
        """What it has started: titles are cf-launcher, cf-supervisor and cf-task."""
        found = [p for p in processes_with(MARK, self.mark) if p.pid != self.pid]
        return [p for p in found if title is None or p.title == title]

    def lose_power(self) -> None:
        """Kill -9 everything of this agent at once, as if its machine were switched off."""
        self.signal(signal.SIGSTOP)

        def all_gone() -> bool:
            left = self.processes()
            for each in left:
                each.kill()
            return not left

        wait_until(all_gone, what="the agent's processes to be gone")
        self.kill()


@dataclass
class Site:
    """A pool of its own on a server, and the agents that serve it; use it as a context.

    With `scripts` it sees no flows: its agents need not import Prefect for them.
    """

    url: str
    pool: str
    env: Mapping[str, str]
    folder: Path
    scripts: bool = False
    agents: list[AgentProcess] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**6)))

    @property
    def connection(self) -> Connection:
        return Connection(self.url)

    def agent(
        self,
        *queues: str,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
        home: Path | None = None,
        program: Sequence[str] = (sys.executable, "-c", AGENT),
        **options: Any,
    ) -> AgentProcess:
        """Start an agent of this pool; by default its queues are made, and it is waited for.

        With an empty name it names itself.
        """
        label = name or f"agent-{self.pool}-{next(self._numbers)}"
        told = {
            "pool": self.pool,
            "queues": list(queues),
            "name": None if name == "" else label,
            "create_queues": True,
            "gpus": [],
            **options,
        }
        settings = QUICK | {"CLEARFLOW_HOME": str(home or self.folder / "home")}
        if self.scripts:
            settings["CLEARFLOW_WARM"] = "0"
        environment = {**self.env, **settings, **(env or {})}
        started = AgentProcess(environment, self.folder / f"{label}.log", told, program)
        self.agents.append(started)
        return started.serving() if wait else started

    def close(self) -> None:
        """End all agents and what they have; nothing is asked of the server any more."""
        for agent in self.agents:
            agent.lose_power()


@functools.cache
def _packed() -> Packed:
    """The script, from a folder in which there is nothing else; its snapshot is read only once."""
    folder = Path(tempfile.mkdtemp(prefix="clearflow-plain-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "laptop").mkdir()
    file = Path(shutil.copy(PLAIN, folder / "laptop"))
    return packing.pack(Order(file), folder / "snapshot")


@dataclass
class Client:
    """What a test asks of a site's server."""

    site: Site
    api: Api

    async def deploy(
        self, entrypoint: str, queue: str, *, path: Path | None = FLOWS, **job_variables: Any
    ) -> dict[str, Any]:
        """The deployment of a flow in tests/flows."""
        return await deployments.ensure(
            self.api,
            flow=f"{self.site.pool} {entrypoint}",
            name="test",
            pool=self.site.pool,
            queue=queue,
            entrypoint=entrypoint,
            path=str(path) if path else None,
            job_variables=job_variables,
        )

    async def enqueue(
        self,
        entrypoint: str,
        queue: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        path: Path | None = FLOWS,
        policy: Mapping[str, Any] | None = None,
        **job_variables: Any,
    ) -> str:
        """A task at the back of a queue; returns its id."""
        deployment = await self.deploy(entrypoint, queue, path=path)
        return await self._create(
            deployment,
            name=name,
            queue=queue,
            parameters=parameters,
            job_variables=job_variables,
            policy=policy,
        )

    async def enqueue_script(
        self,
        what: str,
        queue: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        **job_variables: Any,
    ) -> str:
        """A task that does `what` of tests/scripts/plain.py: for it no agent imports Prefect."""
        sent = await script.send(self.api, _packed(), progress=lambda done, total: None)
        job = {**sent, **job_variables}
        template = await script.template(
            self.api, self.site.pool, "plain", sent, pool=self.site.pool, queue=queue
        )
        return await self._create(
            template,
            name=name,
            queue=queue,
            parameters={scripts.ARGUMENTS: [what, json.dumps(dict(parameters or {}))]},
            job_variables=job,
        )

    async def _create(self, of: Mapping[str, Any], **options: Any) -> str:
        note = Note("queued by a test", by="test", since=self.api.clock.now())
        return (await runs.create(self.api, of, write=lifecycle.queued(note), **options)).id

    async def run(self, run_id: str) -> Run:
        return await runs.resolve(self.api, run_id)

    async def status(self, run_id: str) -> str:
        return (await self.run(run_id)).status(self.api.clock.now())

    async def until(self, run_id: str, *statuses: str, timeout: float = 60) -> Run:
        """The run, once its status is one of these."""

        async def look() -> Run | None:
            run = await self.run(run_id)
            return run if run.status(self.api.clock.now()) in statuses else None

        try:
            found = await wait_until_async(look, timeout, what=f"{run_id} to be {statuses}")
        except WaitedTooLong as late:
            raise WaitedTooLong(f"{late}\n{await self.report(run_id)}") from None
        assert found is not None
        return found

    async def ended(self, run_id: str, timeout: float = 60) -> Run:
        """The run, once it has ended, whatever way, and its supervisor has nothing left to do."""
        run = await self.until(run_id, *ENDED, timeout=timeout)
        token = run.note.claim

        async def gone() -> bool:
            left = self.site.folder.glob(f"**/agents/*/{token}") if token else ()
            return not any(RunDir(folder).has_supervisor() for folder in left)

        await wait_until_async(gone, timeout, what=f"the supervisor of {run_id} to end")
        return run

    async def idle(self, timeout: float = 60) -> None:
        """Until no agent of this site has a task."""

        async def look() -> bool:
            return not any(
                p.title in {"cf-supervisor", "cf-task"}
                for agent in self.site.agents
                for p in agent.processes()
            )

        await wait_until_async(look, timeout, what="the agents to be idle")

    async def report(self, run_id: str) -> str:
        """All that is known of a run that went wrong."""
        states = [f"{s.name}: {s.message}" for s in await self.history(run_id)]
        console = (await self.console(run_id))[-200:]
        said = [f"-- {a.name}\n{a.said()[-3000:]}" for a in self.site.agents]
        return "\n".join(["-- states", *states, "-- console", *console, *said])

    async def history(self, run_id: str) -> list[State]:
        return await runs.history(self.api, (await self.run(run_id)).id)

    async def console(self, run_id: str, logger: str | None = None) -> list[str]:
        """The lines that Prefect has of a run, in Prefect's order."""
        lines = logs.read(self.api, [(await self.run(run_id)).id])
        return [line.message async for line in lines if logger in (None, line.logger)]

    async def until_printed(self, run_id: str, text: str, timeout: float = 60) -> list[str]:
        """The console, once it holds a line with this text."""

        async def look() -> list[str] | None:
            lines = await self.console(run_id)
            return lines if any(text in line for line in lines) else None

        try:
            found = await wait_until_async(look, timeout, what=f"{text!r} on the console")
        except WaitedTooLong as late:
            raise WaitedTooLong(f"{late}\n{await self.report(run_id)}") from None
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def client(site: Site) -> AsyncIterator[Client]:
    """Ask a site's server."""
    async with Api(site.connection, give_up_after=120.0) as api:
        yield Client(site, api)


async def _make_pool(site: Site) -> None:
    async with Api(site.connection) as api:
        await pools.ensure(api, site.pool, base_job_template())


@contextlib.contextmanager
def opened(
    url: str, env: Mapping[str, str], folder: Path, pool: str, *, scripts: bool = False
) -> Iterator[Site]:
    """A site with its pool, whose agents are gone at the end."""
    site = Site(url, pool, env, folder, scripts)
    asyncio.run(_make_pool(site))
    try:
        yield site
    finally:
        site.close()
