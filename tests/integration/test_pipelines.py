"""Pipelines: tasks that start tasks, and a controller that may die. As their users live them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.agents import Client, Site, client
from tests.support.git import Laptop

WORK = """
import os, time
from pathlib import Path

def get_data(query_date, rows=3):
    print("data of", query_date, flush=True)
    return [query_date] * rows

def preprocess(data):
    return {"rows": len(data), "days": sorted(set(data))}

def train(dataset, depth):
    from clearflow import Task
    logger = Task.current_task().get_logger()
    for i, value in enumerate([3.0, 2.0, 1.0 / depth]):
        logger.report_scalar("loss", "train", value=value, iteration=i)
    return {"depth": depth, "loss": 1.0 / depth, "rows": dataset["rows"]}

def pick_best(models):
    best = min(models, key=lambda model: model["loss"])
    print("best", best, flush=True)
    return best
"""
SCENE = """
from clearflow import Pipeline
from work import get_data, pick_best, preprocess, train

pipe = Pipeline("scene", "NASA", version="1.2")
pipe.add_parameter("query_date", "2024-05-03")
pipe.set_default_execution_queue("q")
pipe.add_function_step(
    "get", get_data, {"query_date": "${pipeline.query_date}"}, ["data"], cache_executed_step=True
)
pipe.add_function_step("prepare", preprocess, {"data": "${get.artifacts.data}"}, ["dataset"])
for depth in (1, 2, 4):
    pipe.add_function_step(
        f"train {depth}",
        train,
        {"dataset": "${prepare.artifacts.dataset}", "depth": depth},
        ["model"],
        monitor_metrics=[(("loss", "train"), ("loss", f"depth {depth}"))],
    )
pipe.add_function_step(
    "pick", pick_best, {"models": [f"${{train {d}.artifacts.model}}" for d in (1, 2, 4)]}, ["best"],
    monitor_artifacts=["best"],
)
assert pipe.start(queue="services"), "failed"
print("all", len(pipe.get_processed_nodes()), pipe.is_successful(), flush=True)
"""


@pytest.fixture
def laptop(remotes: tuple[Path, str], tmp_path: Path) -> Laptop:
    made = Laptop(tmp_path, *remotes)
    made.write("work.py", WORK.encode())
    made.save()
    made.push()
    return made


@pytest.fixture
async def ask(shared_site: Site) -> AsyncIterator[Client]:
    async with client(shared_site) as asking:
        yield asking
        await asking.idle()


@pytest.fixture(scope="module")
def agents(shared_site: Site) -> Site:
    """Two agents: one for controllers, one for steps."""
    shared_site.agent("services", slots=4)
    shared_site.agent("q", slots=4)
    return shared_site


def run(site: Site, laptop: Laptop, program: str) -> str:
    """A program that sends its pipeline: the id of its task."""
    (laptop.root / "pipe.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "pipe.py"],
        cwd=laptop.root,
        env={
            **site.env,
            "CLEARFLOW_HOME": str(laptop.root.parent / "laptop-home"),
            "CLEARFLOW_POOL": site.pool,
        },
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.partition("clearflow: task ")[2][:36]


async def test_the_scene(agents: Site, ask: Client, laptop: Laptop) -> None:
    task = run(agents, laptop, SCENE)
    ended = await ask.ended(task, timeout=100)
    report = await ask.report(task)
    print(report)
    assert ended.state is not None
    assert ended.state.type == "COMPLETED", report
