"""The bench every benchmark stands on: a Prefect server of its own, agents, stock workers, a table.

Everything runs on this machine: the server on SQLite as `prefect server start` sets it up, each
agent and worker as a process of its own, as a user would start it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.costs import family
from clearflow._prefect import deployments, pools, runs
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow._prefect.template import base_job_template
from clearflow.words.models import Run
from tests.support.processes import kill_leftovers, marked
from tests.support.server import PrefectServer, template_database
from tests.support.waiting import wait_until

FLOWS = Path(__file__).parent / "flows"
REPOSITORY = Path(__file__).parents[1]
POOL = "clearflow"

_AGENT = """
import sys
from clearflow.agent.main import run
from clearflow.agent.options import AgentOptions
pool, name, slots, *queues = sys.argv[1:]
run(AgentOptions(pool=pool, name=name, slots=int(slots), queues=tuple(queues)))
"""


@dataclass
class Row:
    """One line of the table: what was measured, beside what, against which bar."""

    what: str
    measured: str
    bar: str
    met: bool | None
    stretch: str = ""
    beside: str = ""


@dataclass
class Report:
    """What one benchmark found. `numbers` holds everything it measured."""

    name: str
    rows: list[Row]
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass
class Started:
    """A process the bench has started, its console in `log`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def has_said(self, text: str) -> bool:
        code = self.process.poll()
        said = self.log.read_text(errors="replace")
        if code is not None:
            raise RuntimeError(f"{self.name} has ended with code {code}:\n{said[-3000:]}")
        return text in said

    def lose_power(self) -> None:
        """End it and everything it has started at once, as if its machine was switched off."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
            for pid in reversed(family(self.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def kill(self) -> None:
        """End it and whatever is in its process group, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


class Bench:
    """A server with a `clearflow` pool, and the processes that work for it."""

    def __init__(self, folder: Path, server: PrefectServer) -> None:
        self.folder, self.server = folder, server
        self.connection = Connection(server.url)
        self.started: list[Started] = []

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a process that works for this server; nothing else is set."""
        home = {"CLEARFLOW_HOME": str(self.folder / "clearflow"), "PYTHONPATH": str(REPOSITORY)}
        return {**self.server.env(), **home, **more}

    def api(self) -> Api:
        return Api(self.connection, give_up_after=None)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Started:
        log = self.folder / f"{name}.log"
        with log.open("ab") as console:
            process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = Started(name, process, log)
        self.started.append(started)
        return started

    def agent(self, queue: str, name: str = "agent", **env: str) -> Started:
        """A clearflow agent with one slot, ready for tasks."""
        command = [sys.executable, "-c", _AGENT, POOL, name, "1", queue]
        started = self.start(name, command, self.env(**env))
        wait_until(lambda: started.has_said(f"agent {name} serves"), 60, what=f"{name} to serve")
        return started

    def stock_worker(self, pool: str, limit: int = 0, **env: str) -> Started:
        """A Prefect `process` worker, as `prefect worker start` starts it."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
        command += ["--type", "process", "--name", f"worker-{pool}"]
        command += ["--limit", str(limit)] if limit else []
        started = self.start(f"worker-{pool}", command, self.env(**env))
        wait_until(lambda: started.has_said("started!"), 60, what=f"the worker of {pool}")
        return started

    def stop(self) -> None:
        for started in self.started:
            started.kill()
        self.started.clear()


@contextlib.contextmanager
def bench(settings: Mapping[str, str] | None = None) -> Iterator[Bench]:
    """A bench that leaves no process and no file behind. `settings` are the server's."""
    # The folder holds Unix sockets: its path has to be short.
    folder = Path(tempfile.mkdtemp(prefix="clearflow-"))
    mark = f"bench-{uuid.uuid4().hex[:12]}"
    try:
        with marked(mark):
            template = template_database()
            server = PrefectServer(folder / "server", template=template, settings=settings)
            with server:
                made = Bench(folder, server)
                asyncio.run(_pool(made))
                try:
                    yield made
                finally:
                    made.stop()
            kill_leftovers(mark, grace=1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _pool(made: Bench) -> None:
    async with made.api() as api:
        await pools.ensure(api, POOL, base_job_template())


async def queue(api: Api, name: str, pool: str = POOL) -> str:
    """A queue for clearflow; returns its id."""
    return (await pools.create_queue(api, pool, name)).id


async def stock_pool(api: Api, name: str) -> None:
    await api.post("/work_pools/", {"name": name, "type": "process"})


async def deployment(
    api: Api, flow: str, pool: str, queue: str = "default", **more: Any
) -> dict[str, Any]:
    """A deployment of `flows/<flow>.py`, as the same for every arm."""
    return await deployments.ensure(
        api,
        flow=flow.replace("_", "-"),
        name=f"{pool}-{queue}",
        pool=pool,
        queue=queue,
        entrypoint=f"{flow}.py:{flow}",
        path=str(FLOWS),
        **more,
    )


async def bulk(api: Api, of: Mapping[str, Any], bodies: Sequence[dict[str, Any]]) -> list[str]:
    """Make up to 100 runs in one call; returns their ids.

    SQLite may be locked for one of them, and then for the rest: repeated until all are there.
    """
    path = f"/deployments/{of['id']}/create_flow_run/bulk"
    once = [
        {**body, "idempotency_key": uuid.uuid4().hex, "enforce_parameter_schema": False}
        for body in bodies
    ]
    while True:
        results = (await api.post(path, once))["results"]
        if all(result["status"] == "CREATED" for result in results):
            return [str(result["flow_run_id"]) for result in results]
        await asyncio.sleep(0.2)


async def until(
    look: Callable[[], Any], timeout: float = 120, every: float = 0.005, what: str = "it"
) -> Any:
    """Poll until `look()` gives something true, and return that."""
    deadline = time.monotonic() + timeout
    while not (value := look()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {timeout:g} s for {what}")
        await asyncio.sleep(every)
    return value


async def ended(api: Api, run_id: str, timeout: float = 120) -> Run:
    """The run once it is in a final state; anything else than completed is an error."""
    deadline = time.monotonic() + timeout
    while True:
        run = await runs.read(api, run_id)
        if run.state is not None and run.state.final:
            if run.state.type != "COMPLETED":
                raise RuntimeError(f"{run.name} has ended {run.state.name}: {run.state.message}")
            return run
        if time.monotonic() > deadline:
            raise RuntimeError(f"{run.name} is still {run.state and run.state.name}")
        await asyncio.sleep(0.05)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and extremes, in the unit of the values."""
    ordered = sorted(values)
    at = min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))
    return {
        "n": len(ordered),
        "median": statistics.median(ordered),
        "p95": ordered[at],
        "min": ordered[0],
        "max": ordered[-1],
    }


def markdown(reports: Sequence[Report]) -> str:
    """The table of everything that was measured."""
    lines = [
        "| what | bar | stretch | clearflow | met | beside it |",
        "|---|---|---|---|---|---|",
    ]
    for report in reports:
        for row in report.rows:
            met = {True: "yes", False: "**no**", None: ""}[row.met]
            cells = (row.what, row.bar, row.stretch, row.measured, met, row.beside)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
