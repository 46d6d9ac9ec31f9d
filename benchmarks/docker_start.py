"""From enqueue to the first line of a script in Docker, beside `docker run` alone.

Both arms take turns, in one run, with the same image, which is here: the container writes the time
into a mounted folder in the first line of its program.

* clearflow: the request that makes the run → the first line of a script from a repository;
* alone: `docker run --rm IMAGE python3 -c …` as a command → the first line of its program.

Bar: the median of the one is at most 1 s above that of the other (stretch 0.4 s).
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench import POOL, Bench, Report, Row, bench, ended, queue, summary, until
from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.tasks.packing import Order, pack
from clearflow.tasks.script import submit
from clearflow.words import lifecycle
from clearflow.words.models import Run
from clearflow.words.notes import Note
from tests.support.docker import IMAGE, DockerEngine

FIRST_LINE = "import time; open('/stamps/{}', 'w').write(str(time.time()))"
OURS, ALONE = "clearflow", "docker run"
_AGENT = """
import sys
from clearflow.agent.main import run
from clearflow.agent.options import AgentOptions
pool, image, arguments = sys.argv[1:]
run(AgentOptions(pool=pool, name="docker", queues=("docker",), docker=image, docker_args=arguments))
"""


def run(count: int = 30) -> Report:
    with DockerEngine() as engine, bench() as made:
        engine.make_image()
        stamps = made.folder / "stamps"
        stamps.mkdir()
        seconds = asyncio.run(_measure(made, engine, stamps, count))
    found = {arm: summary(values) for arm, values in seconds.items()}
    above = found[OURS]["median"] - found[ALONE]["median"]
    row = Row(
        "enqueue → first line of a script in Docker, above `docker run` alone",
        f"{above:+.2f} s ({found[OURS]['median']:.2f} s, p95 {found[OURS]['p95']:.2f} s)",
        "≤ 1 s",
        above <= 1.0,
        "0.4 s",
        f"{found[ALONE]['median']:.2f} s (p95 {found[ALONE]['p95']:.2f} s)",
    )
    return Report("docker_start", [row], {"summary": found, "seconds": seconds})


async def _measure(
    made: Bench, engine: DockerEngine, stamps: Path, count: int
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {OURS: [], ALONE: []}
    async with made.api() as api:
        task = await _prepare(made, api, engine, stamps)
        for number in range(-1, count):
            for arm in random.sample([OURS, ALONE], 2):
                await asyncio.sleep(random.uniform(0.3, 1.0))
                stamp = stamps / f"{arm}-{number}".replace(" ", "-")
                if arm == OURS:
                    taken = await _ours(api, task, stamp)
                else:
                    taken = await asyncio.to_thread(_alone, engine, stamp)
                if number >= 0:  # the first round warms everybody up
                    seconds[arm].append(taken)
    return seconds


async def _prepare(made: Bench, api: Api, engine: DockerEngine, stamps: Path) -> Run:
    """Start the agent; a task that has run once, to be started again."""
    await queue(api, "docker")
    words = [sys.executable, "-c", _AGENT, POOL, IMAGE, f"-v {stamps}:/stamps"]
    agent = made.start("docker", words, made.env(DOCKER_HOST=engine.host))
    await until(lambda: agent.has_said("agent docker serves"), what="the agent to serve")
    folder = made.folder / "project"
    await asyncio.to_thread(_repository, folder)
    with TemporaryDirectory(prefix="clearflow-") as place:
        packed = pack(Order(folder / "first.py", queue="docker", pool=POOL), Path(place))
        return await submit(api, packed, by="a benchmark", progress=lambda *_: None)


def _repository(folder: Path) -> None:
    folder.mkdir()
    script = FIRST_LINE.format("' + sys.argv[1] + '")
    (folder / "first.py").write_text(f"import sys\nif sys.argv[1:]:\n    {script}\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        settings = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        subprocess.run(["git", *settings, *words], cwd=folder, check=True)


async def _ours(api: Api, task: Run, stamp: Path) -> float:
    started = time.time()
    assert task.deployment_id is not None
    made = await runs.create(
        api,
        runs.like(task),
        write=lifecycle.queued(Note("queued by a benchmark")),
        parameters={"arguments": [stamp.name]},
    )
    text = await until(lambda: stamp.exists() and stamp.read_text(), what="the script to start")
    await ended(api, made.id)
    return float(text) - started


def _alone(engine: DockerEngine, stamp: Path) -> float:
    started = time.time()
    words = ["run", "--rm", "-v", f"{stamp.parent}:/stamps", IMAGE, "python3", "-c"]
    subprocess.run(
        ["docker", "--host", engine.host, *words, FIRST_LINE.format(stamp.name)], check=True
    )
    return float(stamp.read_text()) - started
