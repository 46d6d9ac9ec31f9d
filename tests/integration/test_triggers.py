"""Triggers on a real server: automations that run `clearflow-trigger`, and an agent that does it.

Datasets and models are events here, as the registry tells them; tasks are real.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from clearflow._prefect import events, runs, variables
from clearflow._prefect.http import Api
from clearflow.automation import reacting
from clearflow.automation import triggers as engine
from clearflow.automation.reactions import Reaction, Told, parsed
from clearflow.automation.triggers import Group
from clearflow.errors import ClearflowError, NotFound, Usage
from clearflow.service.answers import Service
from clearflow.tasks import telling
from clearflow.words.launches import origin_tag
from clearflow.words.lifecycle import Write
from clearflow.words.models import COMPLETED, FAILED, Run
from clearflow.words.notes import Note
from tests.support.agents import Client, Site, client
from tests.support.automation import clearflow, here, place, python
from tests.support.automation import task as completed
from tests.support.server import PrefectServer
from tests.support.waiting import wait_until_async

POOL = "pool-of-triggers"


@pytest.fixture(scope="module")
def site(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A pool with an agent for `services` and `cpu`; nobody serves `idle`."""
    with place(server, tmp_path_factory.mktemp("triggers"), POOL) as site, here(site):
        yield site


task = partial(completed, more="data")


async def happens(
    api: Api, what: str, project: str, *tagged: str, kind: str = "dataset", **more: Any
) -> str:
    """Tell of a dataset as the registry does; its id."""
    said = {
        "id": more.pop("id", None) or uuid4().hex,
        "name": more.pop("name", "pictures"),
        "project": project,
        "version": "1.0.0",
        "tags": list(tagged),
        "changed": more.pop("changed", list(tagged)),
        "status": more.pop("status", "finalized"),
        "by": "bob",
        "task": more.pop("task", None),
    }
    named = {"prefect.resource.name": said["name"], "clearflow.name": said["name"]}
    await events.emit(
        api,
        f"clearflow.{kind}.{what}",
        f"clearflow.{kind}.{said['id']}",
        labels={**named, "clearflow.project": project, "clearflow.version": "1.0.0"},
        payload=said,
    )
    return str(said["id"])


def asked(name: str, source: Run, kind: str = "dataset", **words: Any) -> dict[str, Any]:
    launch = {"task": source.task_id, "queue": "idle", **words.pop("launch", {})}
    return {"name": name, "kind": kind, "launch": launch, **words}


async def put(ask: Client, group: str, *wanted: dict[str, Any], **options: Any) -> Group:
    listed = [parsed(each) for each in wanted]
    await engine.put(ask.api, group, "By itself", listed, by="alice", **options)
    (found,) = await engine.groups(ask.api, group, "By itself")
    return found


async def launched(api: Api, group: Group, name: str) -> list[Run]:
    """What a trigger has launched, the first one first."""
    where = {"tags": {"all_": [origin_tag(group.origin(name))]}}
    found = [run async for run in runs.find(api, where)]
    return sorted(found, key=lambda run: run.created or 0)


async def reactions(api: Api, group: Group, count: int) -> list[Run]:
    """The runs that automations have made, once there are so many."""

    async def enough() -> list[Run]:
        where = {"deployment_id": {"any_": [group.id]}, "created_by": {"type_": ["AUTOMATION"]}}
        found = [run async for run in runs.find(api, where)]
        return found if len(found) >= count else []

    return await wait_until_async(enough, 30, what=f"{count} reactions")


async def react(api: Api, run: Run) -> list[str]:
    """What `clearflow-trigger` does in such a run; what it says."""
    said: list[str] = []
    reaction = Reaction.model_validate(run.parameters["reaction"])
    assert await reacting.react(api, reaction, said.append) == 0, said
    return said


async def test_a_tag_launches_a_copy_that_knows_what_caused_it(
    site: Site, unique: Callable[[str], str]
) -> None:
    async with client(site) as ask:
        api = ask.api
        project = unique("Alice ☂ [raw] / data*")
        base = await task(ask, "train", project, marks=("stable",))
        said = {
            "parameters": {
                "General/data": "${dataset.id}",
                "General/lr": "${dataset.version}: {{ not.jinja }}",
            },
            "name": "trained on ${dataset.name} ${dataset.version}",
        }
        wanted = asked("fresh", base, project=project, tags=["production", "a b"], launch=said)
        group = await put(ask, unique("fresh data"), wanted)
        await happens(api, "tagged", project, "production")  # not all of the tags
        await happens(api, "tagged", unique("Other"), "production", "a b")
        await happens(api, "tagged", project, "production", "a b", kind="model")
        first = await happens(api, "tagged", project, "production", "a b", "x", changed=["a b"])
        # The automation itself tells what fits from what does not, as far as it can.
        (run,) = await reactions(api, group, 1)
        assert run.parameters["reaction"]["event"]["payload"]["id"] == first
        both = await asyncio.gather(react(api, run), react(api, run))
        (made,) = await launched(api, group, "fresh")
        assert all(made.id in line for said in both for line in said)
        assert made.parameters["General"] == {"data": first, "lr": "1.0.0: {{ not.jinja }}"}
        assert made.name == "trained on pictures 1.0.0"
        assert {"fresh", "stable"} <= set(made.tags)
        assert made.queue == "idle"
        assert made.labels["clearflow.launched.dataset"] == f"clearflow.dataset.{first}"
        assert "was tagged 'a b' by bob" in made.labels["clearflow.launched"]
        # It happens again, to the same version.
        await happens(api, "tagged", project, "production", "a b", id=first, changed=["a b"])
        # And what is already as it should be gets another tag: nothing.
        await happens(api, "tagged", project, "production", "a b", "y", id=first, changed=["y"])
        found = await reactions(api, group, 3)
        lines = [line for each in found for line in await react(api, each)]
        assert sum("had these tags before" in line for line in lines) == 1
        assert len(await launched(api, group, "fresh")) == 2


async def test_tasks_trigger_by_status_tag_and_metric_and_never_by_what_was_launched(
    site: Site, unique: Callable[[str], str]
) -> None:
    async with client(site) as ask:
        api = ask.api
        project = unique("Alice")
        base = await task(ask, "report", unique("Reports"))
        night = await task(ask, "night", project)
        wanted = [
            asked("after", base, "task", project=project, statuses=["failed"], tags=["nightly"]),
            asked("low", base, "task", project=project, metric="loss", threshold=0.0),
        ]
        said = {"parameters": {"General/data": "${task.id} ${task.parameters.General/lr}"}}
        wanted[0]["launch"] |= said
        wanted[1]["launch"] |= {"parameters": {"General/lr": "${task.value}"}}
        group = await put(ask, unique("watching"), *wanted)
        failed = Write(FAILED, "Failed", Note("exit code 1"), force=True)
        await runs.propose(api, night.id, failed)
        (untagged,) = await reactions(api, group, 1)
        assert "not tagged 'nightly'" in (await react(api, untagged))[0]
        await runs.patch(api, night.id, tags=[*night.tags, "nightly"])
        fresh = await runs.read(api, night.id)
        await telling.tell_tags(api, fresh, [], by="bob")  # a failed task is tagged
        await runs.propose(api, night.id, Write(COMPLETED, "Completed", Note(), force=True))
        await runs.propose(api, night.id, failed)  # it fails again
        found = await reactions(api, group, 3)
        for each in found:
            if each.id != untagged.id:
                await react(api, each)
        made = await launched(api, group, "after")
        assert [run.parameters["General"]["data"] for run in made] == [f"{night.task_id} 0.1"] * 2
        link = made[1].labels["clearflow.launched.task"]
        assert link == api.connection.run_url(night.id)
        # What the trigger has launched fails as well: it is not launched again and again.
        (event,) = [e for e in made if e.id == made[0].id]
        told = Told(
            id=str(uuid4()), name="prefect.flow-run.Failed", resource=f"prefect.flow-run.{event.id}"
        )
        own = parsed(wanted[0] | {"project": None, "tags": []})
        reaction = Reaction(
            scheduler=group.name, project=group.project, group=group.id, trigger=own, event=told
        )
        said_so: list[str] = []
        assert await reacting.react(api, reaction, said_so.append) == 0
        assert "this trigger has launched the task" in said_so[0]
        # A flow tells its values itself, a few at a time: once below is one launch.
        for iteration, value in enumerate((0.5, -0.25, -0.5)):
            scalars = [("loss", "validation", [iteration], [value])]
            told_now = {"task": night.task_id, "scalars": scalars}
            await Service(api, "alice").answer("report", told_now)
        (low,) = [r for r in await reactions(api, group, 4) if r.id not in {e.id for e in found}]
        await react(api, low)
        (below,) = await launched(api, group, "low")
        assert below.parameters["General"]["lr"] == -0.25


async def test_what_no_automation_has_seen_is_launched_later_and_once(
    site: Site, unique: Callable[[str], str]
) -> None:
    """A server that is killed loses what it was about to do; not what has happened."""
    async with client(site) as ask:
        api = ask.api
        project = unique("Alice")
        base = await task(ask, "train", project)
        wanted = [asked(name, base, project=project) for name in ("seen", "lost", "off")]
        group = await put(ask, unique("fresh"), *wanted)
        shown = {each.trigger.name: each for each in await engine.of(api, group)}
        await engine.pause(api, shown["off"], active=False)
        first = await happens(api, "finalized", project)
        (run,) = [r for r in await reactions(api, group, 2) if _trigger(r) == "seen"]
        await react(api, run)
        for each in await reactions(api, group, 2):
            if _trigger(each) == "lost":  # as if it had never been made
                await runs.delete(api, each.id)

        async def stored() -> bool:
            since = api.clock.now() - timedelta(minutes=5)
            names = ["clearflow.dataset.finalized"]
            found = [e async for e in events.happened(api, names, since)]
            return any(e.payload["id"] == first for e in found)

        await wait_until_async(stored, 30, what="the event to be stored")
        looks = Run("1" * 8, "catch up", None, deployment_id=group.id)
        long_ago = (api.clock.now() - timedelta(days=2)).isoformat()
        monkey = pytest.MonkeyPatch()
        monkey.setattr(reacting, "_SETTLED", timedelta(0))
        monkey.setattr(reacting, "_switched", lambda each, since: since)
        try:
            for _ in range(2):
                await variables.write(api, engine.cursor_name(group.id), long_ago)
                said: list[str] = []
                assert await reacting.catch_up(api, looks, said.append) == 0
        finally:
            monkey.undo()
        assert "launched before" in " ".join(said)
        counts = {name: len(await launched(api, group, name)) for name in ("seen", "lost", "off")}
        assert counts == {"seen": 1, "lost": 1, "off": 0}


def _trigger(run: Run) -> str:
    return str(run.parameters["reaction"]["trigger"]["name"])


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"project": "no one"}, NotFound, "there is nothing in a project 'no one'"),
        ({"launch": {"queue": "nowhere"}}, NotFound, "there is no queue 'nowhere'"),
        ({"launch": {"parameters": {"rate": 1}}}, Usage, "no parameter 'rate'"),
        ({"launch": {"parameters": {"General/lr": "${task.id}"}}}, Usage, "nobody knows what"),
        ({"launch": {"overrides": {"gpu": "${dataset.id}"}}}, Usage, "no 'gpu'"),
        ({"launch": {"task": None}}, Usage, "launch one thing"),
        ({"pattern": "("}, Usage, "not a regular expression"),
        ({"statuses": ["failed"]}, Usage, "a dataset has no status"),
        ({"kind": "task", "tags": []}, Usage, "does not say when"),
        ({"kind": "task", "statuses": ["done"]}, Usage, "waits for the status 'done'"),
        ({"kind": "task", "metric": "loss"}, Usage, "has no threshold"),
        ({"kind": "queue"}, Usage, "kind: "),
    ],
    ids=str,
)
async def test_bad_input_is_one_line_when_it_is_defined(
    site: Site,
    unique: Callable[[str], str],
    change: dict[str, Any],
    kind: type[ClearflowError],
    said: str,
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        wanted = asked("bad", base, tags=["production"])
        launch = wanted["launch"] | change.get("launch", {})
        with pytest.raises(kind, match=said) as caught:
            await put(ask, name := unique("bad"), wanted | change | {"launch": launch})
        assert "bad" in caught.value.message
        assert "\n" not in caught.value.message
        assert not await engine.groups(ask.api, name)


# -- with an agent ----------------------------------------------------------------------------


PROGRAM = """
from clearflow import TriggerScheduler
triggers = TriggerScheduler({name!r}, "By itself")
triggers.add_dataset_trigger({task!r}, "cpu", name="fresh", trigger_project={project!r},
                             trigger_on_tags=["production"])
try:
    triggers.add_dataset_trigger({task!r}, "cpu", name="fresh")
except Exception as error:
    print(type(error).__name__, error)
triggers.start_remotely()
print([each["name"] for each in triggers.get_triggers()])
"""

REPORTS = """
from clearflow import Task
task = Task.init({project!r}, "falls")
for iteration, value in enumerate([1.0, 0.0, -1.0, 2.0, -0.5, -3.0]):
    task.get_logger().report_scalar("loss", "train", value=value, iteration=iteration)
task.close()
"""


FUNCTION = """
from clearflow import TriggerScheduler

def look(dataset_id):
    print("looks at", dataset_id, flush=True)

if __name__ == "__main__":
    made = TriggerScheduler({name!r}, project_name="By itself")
    made.add_dataset_trigger(
        schedule_function=look,
        schedule_queue="cpu",
        trigger_project={project!r},
        trigger_on_tags=["seen"],
        name="look",
    )
    made.start_remotely()
"""


async def a_function_is_called(site: Site, ask: Client, name: str, project: str, folder: Path):
    """It is given the id of what fired."""
    (folder / "looks.py").write_text(FUNCTION.format(name=name, project=project))
    done = python(site, str(folder / "looks.py"))
    assert done.returncode == 0, done.stderr
    (group,) = await engine.groups(ask.api, name)
    dataset = await happens(ask.api, "tagged", project, "seen")

    async def one() -> Run | None:
        return next(iter(await launched(ask.api, group, "look")), None)

    run = await wait_until_async(one, 60, what="the task that calls the function")
    assert run is not None
    ended = await ask.ended(run.task_id)
    assert ended.state is not None
    assert ended.state.type == COMPLETED, await ask.report(run.task_id)
    (said,) = await ask.console(run.task_id, "console")
    assert said == f"looks at {dataset}"


@pytest.mark.timeout(300)
async def test_an_agent_launches_it_again_each_time_and_the_command_line_sees_it(
    site: Site, unique: Callable[[str], str], tmp_path: Path
) -> None:
    async with client(site) as ask:
        project, name = unique("Alice"), unique("fresh")
        base = await task(ask, "train", project, parameters={})
        done = python(site, "-c", PROGRAM.format(name=name, task=base.task_id, project=project))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].startswith("Usage two triggers have the name 'fresh'")
        assert done.stdout.splitlines()[-1] == "['fresh']"
        (group,) = await engine.groups(ask.api, name)
        # Nobody is there yet.
        await happens(ask.api, "tagged", project, "production")
        site.agent("services", "cpu", slots=2)

        async def ended(count: int) -> bool:
            found = await launched(ask.api, group, "fresh")
            return [r.state.type for r in found if r.state] == [COMPLETED] * count

        await wait_until_async(lambda: ended(1), 60, what="the task that is launched")
        await happens(ask.api, "tagged", project, "production")
        await wait_until_async(lambda: ended(2), 60, what="the task that is launched again")
        where = ("--scheduler", name)
        (row,) = json.loads(clearflow("trigger", "ls", *where, "--json").stdout)
        assert (row["name"], row["launched"], row["active"]) == ("fresh", 2, True)
        assert row["when"] == f"a dataset of {project!r} is tagged 'production'"
        assert clearflow("trigger", "pause", "fresh", *where).returncode == 0
        row = json.loads(clearflow("trigger", "show", "fresh", *where, "--json").stdout)
        assert row["active"] is False
        file = tmp_path / "triggers.yaml"
        other = asked("other", base, "task", metric="loss", threshold=0, sign="max")
        one = {"scheduler": name, "project": "By itself", "triggers": [other]}
        file.write_text(json.dumps(one))
        done = clearflow("trigger", "apply", str(file), "--json")
        assert done.returncode == 0, done.stderr
        assert [(d["name"], d["done"]) for d in json.loads(done.stdout)] == [
            ("other", "added"),
            ("fresh", "removed"),
        ]
        # A task reports a loss that falls, rises, and falls again.
        low = asked("low", base, "task", project=project, metric="loss", variant="train")
        low |= {"threshold": 0, "launch": {"task": base.task_id, "queue": "idle"}}
        group = await put(ask, unique("metrics"), low)
        file = tmp_path / "falls.py"
        file.write_text(REPORTS.format(project=project))
        done = python(site, str(file))
        assert done.returncode == 0, done.stderr
        found = await reactions(ask.api, group, 2)
        told = [run.parameters["reaction"]["event"]["payload"] for run in found]
        assert sorted(each["value"] for each in told) == [-0.5, 0.0]
        assert {(each["name"], each["iteration"]) for each in told} == {("falls", 1), ("falls", 4)}

        async def both() -> bool:
            return len(await launched(ask.api, group, "low")) == 2

        await wait_until_async(both, 60, what="a task for each crossing")
        await a_function_is_called(site, ask, unique("calls"), project, tmp_path)
        words = ("model", "new", "--task", base.task_id, "-q", "cpu", "--on-tag", "good")
        said = clearflow("trigger", "add", *words, *where, "--project", "By itself")
        assert "added 'new'" in said.stdout + said.stderr, said.stderr
        assert clearflow("trigger", "rm", "new", "--yes").returncode == 0
        assert clearflow("trigger", "rm", "new", "--yes").returncode == 3
