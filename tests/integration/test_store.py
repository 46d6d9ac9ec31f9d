"""What is too large for Prefect: snapshots and artifacts go through the store that is named."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.test_task_api import ask_task, laptop, run, start
from tests.support.agents import Site, client, opened
from tests.support.git import Laptop
from tests.support.server import PrefectServer

__all__ = ["laptop"]

TRAINING = """
import hashlib, pathlib
from clearflow import Task
task = Task.init("Digits", "large")
task.execute_remotely("q")
data = pathlib.Path("weights.bin").read_bytes()
print("got", hashlib.sha256(data).hexdigest(), flush=True)
task.upload_artifact("weights", "weights.bin")
task.upload_artifact("text", "x" * 17_000_000)
"""
READ = """
import hashlib
task = Task.get_task({task!r})
weights = open(task.artifacts["weights"].get(), "rb").read()
print(json.dumps([hashlib.sha256(weights).hexdigest(), len(task.artifacts["text"].get())]))
"""


@pytest.fixture
def alone(
    fresh_server: PrefectServer,
    clearflow_home: Path,
    tmp_path: Path,
    unique: Callable[[str], str],
) -> Iterator[Site]:
    """A site on a server of its own: there is one store for all of a server."""
    with opened(fresh_server.url, fresh_server.env(), tmp_path, unique("pool")) as site:
        yield site


def command(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clearflow", *words],
        env=dict(site.env),
        capture_output=True,
        text=True,
        check=False,
    )


async def test_twenty_megabytes_travel_there_and_back(alone: Site, laptop: Laptop, tmp_path: Path):
    (laptop.root / "weights.bin").write_bytes(os.urandom(20_000_000))
    async with client(alone) as ask:
        alone.agent("q")
        process = start(alone, laptop, TRAINING)
        _, said = process.communicate(timeout=100)
        assert process.returncode != 0
        assert "too much to send through Prefect" in said
        shown = command(alone, "store", "show")
        assert "hint: `clearflow store set URL`" in shown.stderr, shown.stderr
        bad = command(alone, "store", "set", "s3://bucket/x", "--credentials", "aws/none")
        assert bad.returncode == 2, bad.stderr
        done = command(alone, "store", "set", str(tmp_path / "shared"))
        assert done.returncode == 0, done.stderr
        task, _, _ = run(alone, laptop, TRAINING)
        ended = await ask.ended(task)
        console = "\n".join(await ask.console(task))
        assert ended.state is not None
        assert ended.state.type == "COMPLETED", console
        weights, text = ask_task(alone, READ.format(task=task))
        assert f"got {weights}" in console
        assert text == 17_000_000
        (tmp_path / "shared" / "clearflow-store").write_text("of another machine")
        gone = command(alone, "store", "show")
        assert gone.returncode == 5
        assert "is not reached from this machine" in gone.stdout
