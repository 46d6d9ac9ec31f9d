"""Searches of parameters: trials that are tasks, and a controller that may die."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clearflow._prefect import artifacts, pools
from clearflow.automation.search import report, trials
from clearflow.errors import ClearflowError, NotFound, Refused, Usage
from clearflow.service.answers import Service
from clearflow.words.models import COMPLETED
from tests.integration.test_pipelines import kill_controller
from tests.support.agents import Client, Site, client
from tests.support.gates import closed, open_gate
from tests.support.waiting import WaitedTooLong, wait_until_async

TRAIN = """
import os, threading
from pathlib import Path
from clearflow import Task

task = Task.init("Alice", "train")
p = task.connect({"x": -1, "folder": os.environ.get("FOLDER", "")})
x, folder = p["x"], Path(p["folder"])
logger = task.get_logger()
if x >= 0:
    with open(folder / "ran", "a") as file:
        file.write(f"{x}\\n")
if x == 3:
    raise SystemExit("three cannot be trained")
for i in range(3):
    loss = (x - 6) ** 2 + (1000 if x % 10 == 5 else 0) + 2 - i
    logger.report_scalar("loss", "validation", value=loss, iteration=i)
    logger.report_scalar("cost", "s", value=x, iteration=i)
if x >= 0 and x % 10 == 5:
    threading.Event().wait()
if x >= 0:
    (folder / "go").read_bytes()
"""
SEARCH = """
import json, sys
from clearflow import DiscreteParameterRange, GridSearch, HyperParameterOptimizer, Task

base = Task.get_task(project_name="Alice", task_name="train")
optimizer = HyperParameterOptimizer(
    base, [DiscreteParameterRange("General/x", list(range(8)))], "loss", "validation", "min",
    GridSearch, max_number_of_concurrent_tasks=3, execution_queue="q", total_max_jobs=20,
    optuna_pruner="ThresholdPruner", pruner_arguments={"upper": 100}, name="best x",
    save_top_k_tasks_only=4,
)
told = []
optimizer.start(lambda *words: told.append(words))
print(optimizer.task.id, flush=True)
good = optimizer.wait(timeout=3)
print(json.dumps({
    "good": good,
    "told": [[words[1], words[2], words[3]] for words in told],
    "top": [task.get_parameter("x", cast=True) for task in optimizer.get_top_experiments(3)],
    "details": optimizer.get_top_experiments_details(1, all_metrics=True),
    "trials": [[t["hyper_parameters"]["General/x"], t["status"]] for t in optimizer.get_trials()],
    "active": optimizer.is_active(),
}))
"""


FURTHER = """
import optuna
from clearflow.automation import DiscreteParameterRange, HyperParameterOptimizer, OptimizerOptuna

optimizer = HyperParameterOptimizer(
    "{base}", [DiscreteParameterRange("General/x", [15, 25])],
    ["loss", "cost"], ["validation", "s"], ["min", "max"], OptimizerOptuna,
    max_number_of_concurrent_tasks=1, execution_queue="q", total_max_jobs=4, name="further",
    optuna_sampler=optuna.samplers.NSGAIISampler(seed=1), continue_previous_study="{before}",
)
optimizer.start()
optimizer.set_time_limit(60)
print(optimizer.task.id, flush=True)
open("stop").read()
assert [task.status for task in optimizer.get_active_experiments()] == ["running"]
optimizer.stop()
assert not optimizer.is_active()
"""


@pytest.fixture(scope="module")
def site(shared_site: Site) -> Site:
    """An agent for controllers and trials."""
    shared_site.agent("services", "q", slots=5, env={"CLEARFLOW_POOL": shared_site.pool})
    return shared_site


@pytest.fixture
async def ask(site: Site) -> AsyncIterator[Client]:
    async with client(site) as asking:
        yield asking
        await asking.idle()


@pytest.fixture(autouse=True)
def pool(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from clearflow.settings import settings

    monkeypatch.setenv("CLEARFLOW_POOL", site.pool)
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


class Person:
    """Somebody with a script in a folder."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        closed(folder / "go")
        home = str(folder / "home")
        self.env = {**site.env, "CLEARFLOW_HOME": home, "CLEARFLOW_POOL": site.pool}

    def start(self, program: str) -> subprocess.Popen[str]:
        (self.folder / "program.py").write_text(program)
        return subprocess.Popen(
            [sys.executable, "program.py"],
            cwd=self.folder,
            env={**self.env, "FOLDER": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str) -> str:
        done = self.start(program)
        out, err = done.communicate(timeout=100)
        assert done.returncode == 0, err
        return out

    def clearflow(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "clearflow", *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ran(self) -> list[int]:
        """The points that were trained, in their order; some twice if a trial was doubled."""
        file = self.folder / "ran"
        return [int(line) for line in file.read_text().split()] if file.exists() else []


@pytest.fixture
def person(site: Site, tmp_path: Path) -> Person:
    return Person(site, tmp_path)


async def until(ask: Client, search: str, what: str, look: Callable[[], bool]) -> None:
    async def done() -> bool:
        return look()

    try:
        await wait_until_async(done, 60, what)
    except WaitedTooLong as late:
        raise WaitedTooLong(f"{late}\n{await ask.report(search)}") from None


async def test_clearml_ran_trials_in_a_row_died_of_one_and_forgot_them_all(
    ask: Client, person: Person
) -> None:
    """ClearML's search dies of a failed trial (#644), and begins anew when it dies (#738, #367)."""
    person.run(TRAIN)
    program = person.start(SEARCH)
    assert program.stdout is not None
    search = program.stdout.readline().strip()
    await until(ask, search, "three trials at once (ClearML #613)", lambda: len(person.ran()) >= 3)
    await kill_controller(person.site, ask, search)
    open_gate(person.folder / "go")
    out = await said_by(program, ask, search)
    ended = await ask.ended(search)
    assert ended.state is not None
    assert ended.state.type == COMPLETED, await ask.report(search)
    assert ended.note.attempt == 2
    assert sorted(person.ran()) == list(range(8))
    said = json.loads(out)
    assert (said["good"], said["active"]) == (True, False)
    assert said["top"] == [6, 7, 4]
    assert said["details"][0]["metrics"] == {"loss/validation": 0.0, "cost/s": 6.0}
    whole = {3: "failed", 5: "pruned"}
    assert dict(said["trials"]) == {x: whole.get(x, "complete") for x in range(8)}
    # The callback heard of each, once.
    assert sorted(words[2]["General/x"] for words in said["told"]) == list(range(8))
    found = await trials.trials(ask.api, search)
    by_x = {trial.run.parameters["General"]["x"]: trial for trial in found}
    assert by_x[5].run.state is not None
    assert by_x[5].run.state.type == "CANCELLED"
    assert by_x[5].ended is not None
    assert by_x[5].ended.reason.startswith("pruned at iteration")
    assert by_x[3].ended is not None
    assert "exit code 1" in by_x[3].ended.reason
    archived = {x for x, trial in by_x.items() if "archived" in trial.run.tags}
    assert archived == set(range(8)) - {6, 7, 4, 2}
    # One environment for all: of one recipe there is one on a machine.
    assert len({json.dumps(trial.run.job_variables, sort_keys=True) for trial in found}) == 1
    await shown(ask, search)


async def said_by(program: subprocess.Popen[str], ask: Client, search: str) -> str:
    """What a program prints until it ends, as it does when the search is over."""
    try:
        out, err = await asyncio.to_thread(program.communicate, timeout=90)
    except subprocess.TimeoutExpired:
        program.kill()
        out, err = program.communicate()
        err += "it has not ended"
    assert program.returncode == 0, err + await ask.report(search)
    return out


async def shown(ask: Client, search: str) -> None:
    """What the Prefect UI shows of it."""
    kinds = (artifacts.TABLE, artifacts.MARKDOWN)
    found = {a.kind: a async for a in artifacts.of(ask.api, search, *kinds)}
    rows = json.loads(found[report.TRIALS].data)
    assert [row["General/x"] for row in rows[:3]] == [6, 7, 4]
    assert len(rows) == 8
    picture = found[report.PARALLEL].data
    svg = base64.b64decode(picture.partition("base64,")[2].rstrip(")")).decode()
    assert svg.count("<polyline") == 6
    told = await Service(ask.api, "tester").answer("describe", {"task": search})
    assert told["properties"]["best loss/validation"] == 0
    assert told["progress"] == 100


def settings(base: str, **more: Any) -> dict[str, Any]:
    return {
        "base_task_id": base,
        "hyper_parameters": [{"kind": "discrete", "name": "General/x", "values": [15, 25]}],
        "objectives": [{"title": "loss", "series": "validation"}],
        "optimizer": "grid",
        "execution_queue": "q",
        **more,
    }


async def test_a_search_is_a_task_and_its_trials_end_with_it(ask: Client, person: Person) -> None:
    """Launched as an application, cloned, changed, queued again; its time ends it.

    Iterations end trials (ClearML #1507).
    """
    person.run(TRAIN)
    service = Service(ask.api, "tester")
    (base,) = (await service.answer("find", {"project": "Alice", "name": "train"}))[:1]
    # What never ends by itself is stopped by its iterations, and counts.
    said = settings(base["id"], max_iteration_per_job=2)
    words = [f"--set={name}={json.dumps(value)}" for name, value in said.items()]
    done = person.clearflow("app", "launch", "search", *words, "--name", "short", "--json")
    first = json.loads(done)["task"]
    ended = await ask.ended(first)
    assert ended.state is not None
    assert ended.state.type == COMPLETED, await ask.report(first)
    found = await service.answer("search.trials", {"task": first})
    assert [(t["status"], t["iteration"]) for t in found] == [("complete", 2)] * 2
    # A copy with other parameters, whose trials nothing ends, until it is told to.
    again = await service.answer("clone", {"task": first, "name": "long"})
    changed = {"settings": {**again["parameters"]["settings"], "max_iteration_per_job": None}}
    await service.answer("change", {"task": again["id"], "parameters": changed})
    await service.answer("enqueue", {"task": again["id"], "queue": "services"})
    await until(ask, again["id"], "its trials to run", lambda: len(person.ran()) == 4)
    await service.answer("search.limit", {"task": again["id"], "minutes": 0.001})
    ended = await ask.ended(again["id"])
    assert ended.state is not None
    assert ended.state.type == COMPLETED, await ask.report(again["id"])
    assert "the search is out of time" in "\n".join(await ask.console(again["id"]))
    mine = await trials.trials(ask.api, again["id"])
    assert len(mine) == 2
    for trial in mine:
        await ask.until(trial.task, "aborted")
    await two_objectives(ask, person, base["id"])


async def two_objectives(ask: Client, person: Person, base: str) -> None:
    """Without Python; and a further search that learns from it, and is stopped."""
    open_gate(person.folder / "go")
    asked = ["--minimize", "loss/validation", "--maximize", "cost/s", "--choice", "General/x=6,7"]
    asked += ["--optimizer", "grid", "-q", "q", "--name", "both", "--json"]
    search = json.loads(person.clearflow("search", "run", base, *asked))["id"]
    ended = await ask.ended(search)
    assert ended.state is not None
    assert ended.state.type == COMPLETED, await ask.report(search)
    shown = json.loads(person.clearflow("search", "show", search, "--json"))
    # Neither is better in both.
    assert [t["metrics"] for t in shown] == [
        {"loss/validation": 0.0, "cost/s": 6.0},
        {"loss/validation": 1.0, "cost/s": 7.0},
    ]
    listed = json.loads(person.clearflow("search", "ls", "--json"))
    (row,) = [each for each in listed if each["id"] == search]
    assert (row["name"], row["ended"], row["best"]["trial"]) == ("both", 2, 1)
    stop = closed(person.folder / "stop")
    program = person.start(FURTHER.format(base=base, before=search))
    assert program.stdout is not None
    further = program.stdout.readline().strip()

    async def one_runs() -> bool:
        mine = await trials.trials(ask.api, further)
        return any([await ask.status(each.task) == "running" for each in mine])

    await wait_until_async(one_runs, 60, what="a trial to run")
    open_gate(stop)
    await said_by(program, ask, further)
    ended = await ask.ended(further)
    assert ended.state is not None
    assert ended.state.type == "CANCELLED"
    for trial in await trials.trials(ask.api, further):
        await ask.until(trial.task, "aborted")
    with pytest.raises(Refused, match="has ended"):
        await Service(ask.api, "tester").answer("search.limit", {"task": further})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"base_task_id": "00000000-0000-0000-0000-000000000000"}, NotFound, "there is no task"),
        ({"execution_queue": "nowhere"}, NotFound, "there is no queue 'nowhere'"),
        (
            {"hyper_parameters": [{"kind": "discrete", "name": "General/y", "values": [1]}]},
            Usage,
            "has no parameter 'General/y'",
        ),
        ({"optimizer": "optuna", "sampler": "Tpe", "total_max_jobs": 1}, Usage, "no sampler 'Tpe'"),
    ],
)
async def test_bad_input_is_one_line_at_definition(
    ask: Client,
    person: Person,
    change: dict[str, Any],
    error: type[ClearflowError],
    words: str,
) -> None:
    await pools.ensure_queue(ask.api, person.site.pool, "q")
    service = Service(ask.api, "tester")
    which = {"project": "Alice", "name": "train"}
    if not await service.answer("find", which):
        person.run(TRAIN)
    (base,) = (await service.answer("find", which))[:1]
    with pytest.raises(error, match=words) as raised:
        await service.answer("search.check", {"settings": {**settings(base["id"]), **change}})
    assert "\n" not in raised.value.message
    lost = settings(base["id"], objectives=[{"title": "loss", "series": "test"}])
    (doubt,) = await service.answer("search.check", {"settings": lost})
    assert "has never reported 'loss/test'; it has reported " in doubt
