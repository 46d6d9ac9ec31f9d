"""Pipelines: tasks that start tasks, and a controller that may die. As their users live them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from clearflow._prefect import pools, runs
from clearflow.automation import firing, schedulers
from clearflow.automation.jobs import Firing
from clearflow.service.answers import Service
from clearflow.tasks.steps import steps
from clearflow.words.launches import origin_tag
from clearflow.words.models import Run
from clearflow.words.names import STEP
from tests.support.agents import Client, Site, client, opened
from tests.support.gates import closed, open_gate
from tests.support.git import Laptop, git
from tests.support.server import PrefectServer
from tests.support.waiting import WaitedTooLong, wait_until_async

WORK = """
import os, time
from pathlib import Path

def get_data(query_date, rows=3):
    print("data of", query_date, flush=True)
    return [query_date] * rows

def preprocess(data):
    from clearflow import Dataset
    Path("days.txt").write_text("\\n".join(data))
    made = Dataset.create("days", "NASA", dataset_tags=[data[0]])
    made.add_files("days.txt")
    made.upload()
    made.finalize()
    return made.id

def train(dataset, depth):
    from clearflow import Dataset, Task
    folder = Path(Dataset.get(dataset).get_local_copy())
    rows = len((folder / "days.txt").read_text().splitlines())
    logger = Task.current_task().get_logger()
    for i, value in enumerate([3.0, 2.0, 1.0 / depth]):
        logger.report_scalar("loss", "train", value=value, iteration=i)
    return {"depth": depth, "loss": 1.0 / depth, "rows": rows}

def which():
    return "main"

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


REPORT = """
from clearflow import Task

task = Task.init()
print("report of", task.connect({"lines": []})["lines"])
"""
LOCAL = """
from clearflow import Pipeline, Task
from work import which

base = Task.create("NASA", "report", script="report.py")
pipe = Pipeline("local", "NASA")
pipe.add_parameter("branch", "other")
pipe.add_function_step("here", which, function_return="line")
pipe.add_function_step("there", which, function_return="line", repo_branch="${pipeline.branch}")
pipe.add_step(
    "report", base.id, clone_base_task=False, tags=["made"],
    parameter_override={"General/lines": ["${here.status}", "${there.id}"]},
)
assert pipe.run_locally(), "failed"
dag = pipe.get_pipeline_dag()
assert dag["report"].executed == base.id
there = dag["there"].executed
print("local", dag["here"].job.artifacts["line"].get(), dag["there"].job.artifacts["line"].get(),
    base.get_parameters(cast=True)["General/lines"] == ["completed", there])
again = Pipeline("again", "NASA")
again.set_default_execution_queue("q")
again.add_step("report again", base.id, clone_base_task=False)
assert not again.start_locally()
"""


@pytest.fixture
def laptop(remotes: tuple[Path, str], tmp_path: Path) -> Laptop:
    made = Laptop(tmp_path, *remotes)
    made.write("work.py", WORK.encode())
    made.write("report.py", REPORT.encode())
    made.save()
    made.push()
    return made


FRIDAYS = """
from clearflow import TaskScheduler

scheduler = TaskScheduler("fridays", project_name="NASA")
scheduler.add_task(
    schedule_task_id={task!r},
    queue="services",
    name="friday",
    cron="30 8 * * 5",
    timezone="America/New_York",
    task_parameters={{"Args/query_date": "${{schedule.date}}"}},
    execute_immediately=True,
)
scheduler.start_remotely()
"""
SHAKEN = """
from clearflow import component, pipeline

@component(return_values=["line"])
def work(name, after, folder):
    from pathlib import Path
    with open(Path(folder) / "ran", "a") as file:
        file.write(name + "\\n")
    (Path(folder) / f"go {name}").read_bytes()
    return after + [name]

@pipeline(name="shaken", project="NASA", default_queue="q", return_value="line")
def shaken(folder):
    line = work("one", [], folder)
    if len(line) == 1:
        line = work("two", line, folder)
    return work("three", line, folder)

if __name__ == "__main__":
    import sys
    shaken(sys.argv[1])
"""
LONG = """
import threading
from clearflow import Pipeline

def wait():
    threading.Event().wait()

if __name__ == "__main__":
    pipe = Pipeline("long", "NASA")
    pipe.set_default_execution_queue("q")
    for n in range(2):
        pipe.add_function_step(f"wait {n}", wait)
    pipe.start()
"""


def run(site: Site, laptop: Laptop, text: str, *words: str) -> str:
    """A program that sends its pipeline: the id of its task."""
    return program(site, laptop, text, *words).stderr.partition("clearflow: task ")[2][:36]


def program(site: Site, laptop: Laptop, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A program that somebody runs, until it ends."""
    (laptop.root / "pipe.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "pipe.py", *words],
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
    assert done.returncode == 0, done.stdout + done.stderr
    return done


async def names_of_steps(ask: Client, pipeline: str) -> dict[str, Run]:
    found = await steps(ask.api, pipeline)
    return {str(run.labels[STEP]): run for run in found.values()}


async def until(ask: Client, pipeline: str, look: Callable[[dict[str, Run]], bool]) -> None:
    async def done() -> bool:
        return look(await names_of_steps(ask, pipeline))

    try:
        await wait_until_async(done, 60, what="the steps")
    except WaitedTooLong as late:
        raise WaitedTooLong(f"{late}\n{await ask.report(pipeline)}") from None


@pytest.fixture(scope="module")
def site(shared_site: Site) -> Site:
    """An agent for controllers and steps."""
    shared_site.agent("services", "q", slots=9)
    return shared_site


@pytest.fixture
async def ask(site: Site) -> AsyncIterator[Client]:
    async with client(site) as asking:
        yield asking
        await asking.idle()


async def test_the_nasa_scene(site: Site, ask: Client, laptop: Laptop) -> None:
    """Data of a date, a dataset, three trainings side by side, the best; and again by a clone."""
    task = run(site, laptop, SCENE)
    ended = await ask.ended(task, timeout=100)
    assert ended.state is not None
    assert ended.state.type == "COMPLETED", await ask.report(task)
    console = await ask.console(task, "console")
    assert console[-1] == "all 6 True"
    service = Service(ask.api, "tester")
    told = await service.answer("describe", {"task": task})
    assert told["parameters"]["Args"] == {"query_date": "2024-05-03"}
    assert told["properties"] == {"version": "1.2"}
    kept = await service.answer("artifacts", {"task": task})
    assert [(a["name"], a["type"]) for a in kept] == [("best", "JSON")]
    scalars = {row[1]: row[2:] for row in await service.answer("last", {"task": task})}
    assert {series: row[0] for series, row in scalars.items()} == {
        "depth 1": 1.0,
        "depth 2": 0.5,
        "depth 4": 0.25,
    }
    # The graph as the Prefect UI draws it.
    graph = await ask.api.get(f"/flow_runs/{ended.id}/graph-v2")
    nodes = {node["label"].rpartition(" / ")[2]: (key, node) for key, node in graph["nodes"]}
    assert len(nodes) == 6
    after = {node["id"] for node in nodes["prepare"][1]["children"]}
    assert after == {nodes[f"train {d}"][0] for d in (1, 2, 4)}
    assert {node["kind"] for _, node in nodes.values()} == {"flow-run"}
    assert {node["state_type"] for _, node in nodes.values()} == {"COMPLETED"}
    # Steps are tasks, though they are parts of the graph; and what comes of them stays theirs.
    found = await service.answer("find", {"project": "NASA"})
    assert {each["name"] for each in found} == {"scene", *nodes}
    first = await names_of_steps(ask, task)
    assert first["pick"].task_run is not None

    same = await service.answer("clone", {"task": task, "name": "the same day"})
    await service.answer("enqueue", {"task": same["id"], "queue": "services"})
    run_of = await ask.ended(same["id"], timeout=100)
    assert run_of.state is not None
    assert run_of.state.type == "COMPLETED", await ask.report(same["id"])
    cached = await names_of_steps(ask, same["id"])
    assert set(cached) == set(nodes) - {"get"}
    await every_friday(site, ask, laptop, task)


async def test_a_pipeline_runs_here_with_all_of_its_steps(
    site: Site, ask: Client, laptop: Laptop
) -> None:
    """One of another branch, one that is the base task itself; and none is left behind."""
    git(laptop.root, "checkout", "-q", "-b", "other")
    laptop.write("work.py", WORK.replace('return "main"', 'return "other"').encode())
    laptop.save()
    git(laptop.root, "push", "-q", "origin", "other")
    git(laptop.root, "checkout", "-q", "main")
    done = program(site, laptop, LOCAL)
    assert "local main other True" in done.stdout, done.stdout + done.stderr
    assert "is no draft, so it cannot be the step" in done.stdout
    (report,) = await Service(ask.api, "tester").answer("find", {"name": "report"})
    assert "made" in report["tags"]
    assert "report of ['completed'" in "".join(await ask.console(report["id"], "console"))
    names = {queue.name for queue in await pools.queues(ask.api, site.pool)}
    assert names <= {"services", "q", "default"}


async def every_friday(site: Site, ask: Client, laptop: Laptop, pipeline: str) -> None:
    """It is scheduled in New York, runs at once, and then on Fridays with the date of the day."""
    run(site, laptop, FRIDAYS.format(task=pipeline))
    (scheduler,) = await schedulers.schedulers(ask.api, "fridays", "NASA")
    origin = origin_tag(schedulers.origin(scheduler.id, "friday"))

    async def launched() -> list[Run]:
        found = [r async for r in runs.find(ask.api, {"tags": {"all_": [origin]}})]
        return sorted(found, key=lambda r: r.created or datetime.now(UTC))

    (at_once,) = await wait_until_async(launched, 60, what="the pipeline that is launched at once")
    ended = await ask.ended(at_once.task_id, timeout=100)
    assert ended.state is not None
    assert ended.state.type == "COMPLETED", await ask.report(at_once.task_id)
    (day,) = ended.parameters["Args"].values()
    zone = ZoneInfo("America/New_York")
    assert abs(date.fromisoformat(day) - datetime.now(zone).date()) <= timedelta(days=1)
    steps_of = await names_of_steps(ask, at_once.task_id)
    assert len(steps_of) == 6
    assert f"data of {day}" in await ask.console(steps_of["get"].task_id, "console")
    versions = await Service(ask.api, "tester").answer("dataset.list", {"project": "NASA"})
    tagged = {v["version"]: v["tags"] for v in versions}
    assert sorted(tagged) == ["1.0.0", "1.0.1", "1.0.2"]
    assert tagged["1.0.2"] == [day]
    (job,) = await schedulers.jobs(ask.api, scheduler)
    moments = [moment.astimezone(zone) for moment in job.next[:3]]
    assert {(m.weekday(), m.hour, m.minute) for m in moments} == {(4, 8, 30)}
    assert {b.date() - a.date() for a, b in pairwise(moments)} == {timedelta(days=7)}
    await on_friday(ask, job, moments[0])
    later = (await launched())[-1]
    assert later.id != at_once.id
    assert later.parameters["Args"] == {"query_date": moments[0].date().isoformat()}
    await Service(ask.api, "tester").answer("abort", {"task": later.task_id})
    await ask.until(later.task_id, "aborted")


async def on_friday(ask: Client, job: Any, moment: datetime) -> None:
    """What `clearflow-launch` does when that moment has come."""
    due = Run(
        id="22222222-2222-2222-2222-222222222222",
        name="friday",
        state=None,
        deployment_id=job.schedule.deployment,
        expected=moment,
    )
    wanted = Firing.model_validate(job.schedule.parameters["firing"])
    assert await firing.fire(ask.api, due, wanted, print) == 0


async def test_clearml_left_the_steps_of_an_aborted_pipeline_running(
    site: Site, ask: Client, laptop: Laptop
) -> None:
    """ClearML leaves them running. Also when the controller is killed in that moment.

    And when Prefect's UI cancels one that waits after it was lost: nobody has it then.
    """
    tasks = [run(site, laptop, LONG) for _ in range(3)]
    for task in tasks:
        await until(
            ask,
            task,
            lambda found: (
                len(found) == 2
                and all(r.status(ask.api.clock.now()) == "running" for r in found.values())
            ),
        )
    service = Service(ask.api, "tester")
    await service.answer("abort", {"task": tasks[0]})
    await kill_controller(site, ask, tasks[1])
    await service.answer("abort", {"task": tasks[1]})
    await pools.change_queue(ask.api, site.pool, "services", is_paused=True)
    await kill_controller(site, ask, tasks[2])
    await ask.until(tasks[2], "queued")
    cancelling = {"state": {"type": "CANCELLING"}}
    await ask.api.post(f"/flow_runs/{(await ask.run(tasks[2])).id}/set_state", cancelling)
    await pools.change_queue(ask.api, site.pool, "services", is_paused=False)
    for task in tasks:
        ended = await ask.ended(task)
        assert ended.state is not None
        assert ended.state.type == "CANCELLED", await ask.report(task)
        for step in (await names_of_steps(ask, task)).values():
            await ask.until(step.task_id, "aborted")


@pytest.fixture
def shaken(
    fresh_server: PrefectServer, clearflow_home: Path, tmp_path: Path
) -> Iterator[tuple[Site, PrefectServer]]:
    """A site on a server of its own, which may be killed."""
    env = fresh_server.env(home=tmp_path / "prefect-home")
    with opened(fresh_server.url, env, tmp_path, "shaken", scripts=True) as site:
        yield site, fresh_server


async def test_a_pipeline_outlives_its_controller_its_agent_and_the_server(
    shaken: tuple[Site, PrefectServer], laptop: Laptop, tmp_path: Path
) -> None:
    """Kill -9 of the controller, of the agent of a step, a restart of the server: nothing twice."""
    site, server = shaken
    record = tmp_path / "ran"
    record.touch()
    site.agent("services", name="light")
    heavy = site.agent("q", name="heavy")
    async with client(site) as ask:
        for name in ("one", "two", "three"):
            closed(tmp_path / f"go {name}")
        task = run(site, laptop, SHAKEN, str(tmp_path))

        async def ran(count: int) -> None:
            await until(ask, task, lambda found: len(record.read_text().split()) == count)

        await ran(1)
        await kill_controller(site, ask, task)
        open_gate(tmp_path / "go one")
        await ran(2)
        heavy.kill()
        open_gate(tmp_path / "go two")
        site.agent("q", name="heavy")
        await ran(3)
        server.kill()
        server.start()
        open_gate(tmp_path / "go three")
        ended = await ask.ended(task, timeout=90)
        assert ended.state is not None
        assert ended.state.type == "COMPLETED", await ask.report(task)
        assert ended.note.attempt == 2
        assert record.read_text().split() == ["one", "two", "three"]
        service = Service(ask.api, "tester")
        kept = await service.answer("artifact", {"task": task, "name": "line"})
        assert json.loads(base64.b64decode(kept["content"])) == ["one", "two", "three"]


async def kill_controller(site: Site, ask: Client, task: str) -> None:
    """Kill -9 the process of a task, and nothing else of it."""
    claim = (await ask.run(task)).note.claim or "none"
    mine = [
        found
        for agent in site.agents
        for found in agent.processes()
        if found.title not in {"cf-launcher", "cf-supervisor"} and _carries(found.pid, claim)
    ]
    assert mine
    for found in mine:
        found.kill()


def _carries(pid: int, claim: str) -> bool:
    try:
        return claim.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
