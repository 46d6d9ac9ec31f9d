"""Schedules on a real server: made so in Prefect, launched by an agent of the services queue."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clearflow._prefect import deployments, runs, schedules, variables
from clearflow._prefect.http import Api
from clearflow.automation import firing, launching, schedulers
from clearflow.automation import schedules as engine
from clearflow.automation.jobs import Firing, parsed
from clearflow.automation.launching import Choice, Launch
from clearflow.automation.schedulers import Scheduler
from clearflow.errors import ClearflowError, NotFound, Usage
from clearflow.words import lifecycle
from clearflow.words.launches import origin_tag
from clearflow.words.lifecycle import Write
from clearflow.words.models import COMPLETED, Run
from clearflow.words.notes import Note
from tests.support.agents import Client, Site, client
from tests.support.automation import clearflow, here, place, python
from tests.support.automation import task as completed
from tests.support.gates import closed
from tests.support.server import PrefectServer
from tests.support.waiting import wait_until_async

POOL = "pool-of-schedules"


@pytest.fixture(scope="module")
def site(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A pool whose agent serves `services` and `cpu`."""
    with place(server, tmp_path_factory.mktemp("schedules"), POOL) as site, here(site):
        yield site


task = partial(completed, more="date")


async def queue(ask: Client, name: str) -> None:
    from clearflow._prefect import pools

    await pools.ensure_queue(ask.api, POOL, name)


def job(name: str, source: Run, **words: Any) -> dict[str, Any]:
    launch = {"task": source.task_id, "queue": "idle", **words.pop("launch", {})}
    return {"name": name, "launch": launch, **words}


async def put(ask: Client, name: str, *wanted: dict[str, Any], **options: Any) -> Scheduler:
    await queue(ask, "idle")
    listed = [parsed(each) for each in wanted]
    await engine.put(ask.api, name, "Nights", listed, by="alice", **options)
    (found,) = await schedulers.schedulers(ask.api, name, "Nights")
    return found


async def launched(api: Api, scheduler: Scheduler, name: str) -> list[Run]:
    """What a job has launched, the first one first."""
    where = {"tags": {"all_": [origin_tag(schedulers.origin(scheduler.id, name))]}}
    found = [run async for run in runs.find(api, where)]
    return sorted(found, key=lambda run: run.created or datetime.now(UTC))


async def fire(
    ask: Client, scheduler: Scheduler, name: str, at: datetime | None = None
) -> tuple[int, list[str]]:
    """What `clearflow-launch` does for a run that was made for a moment; what it says."""
    (shown,) = [j for j in await schedulers.jobs(ask.api, scheduler) if j.name == name]
    said: list[str] = []
    run = Run(
        id="11111111-1111-1111-1111-111111111111",
        name=name,
        state=None,
        deployment_id=scheduler.id,
        expected=at or shown.next[0],
    )
    wanted = Firing.model_validate(shown.schedule.parameters["firing"])
    failed = await firing.fire(ask.api, run, wanted, said.append)
    return failed, said


async def missing(ask: Client, scheduler: Scheduler, name: str, since: datetime) -> None:
    """As if nobody had looked at a job since then."""
    from clearflow.words.fires import Cursor

    await variables.write(ask.api, schedulers.cursor_name(scheduler.id, name), Cursor(since).dump())


def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if schedules had not been changed for a long time."""
    of = schedules.of

    async def old(api: Api, deployment_id: str) -> list[schedules.Schedule]:
        from dataclasses import replace

        return [
            replace(each, since=datetime(2025, 1, 1, tzinfo=UTC))
            for each in await of(api, deployment_id)
        ]

    monkeypatch.setattr(schedules, "of", old)


async def test_a_fire_launches_a_copy_with_what_the_moment_says(
    site: Site, unique: Callable[[str], str]
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", project := unique("Alice"))
        said = {
            "parameters": {"General/date": "${schedule.date}", "General/lr": "${schedule.number}"},
            "name": "of ${schedule.time:%d.%m. %H:%M}",
            "tags": ["nightly"],
            "time_limit_hours": 2,
            "target_project": unique("Target"),
        }
        asked = job("friday", base, cron="30 8 * * 5", timezone="Europe/Berlin", launch=said)
        scheduler = await put(ask, unique("nights"), asked)
        (shown,) = await schedulers.jobs(ask.api, scheduler)
        assert len(shown.next) == schedules.AHEAD
        local = shown.next[0].astimezone(launching_zone("Europe/Berlin"))
        assert (local.weekday(), local.hour, local.minute) == (4, 8, 30)
        failed, lines = await fire(ask, scheduler, "friday")
        assert failed == 0
        assert len(lines) == 1
        (run,) = await launched(ask.api, scheduler, "friday")
        assert run.id in lines[0]
        assert run.parameters["General"] == {"lr": 1, "date": f"{local:%Y-%m-%d}"}
        assert run.name == f"of {local:%d.%m. %H:%M}"
        assert {"nightly", f"project:{said['target_project']}"} <= set(run.tags)
        assert f"project:{project}" not in run.tags
        assert run.job_variables["time_limit_seconds"] == 7200
        assert run.queue == "idle"
        assert "schedule 'friday'" in run.labels["clearflow.launched"]
        # The same fire again, twice at once: nothing more.
        both = await asyncio.gather(*(fire(ask, scheduler, "friday") for _ in range(2)))
        assert [each[0] for each in both] == [0, 0]
        assert len(await launched(ask.api, scheduler, "friday")) == 1


def launching_zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


async def test_the_same_key_never_makes_a_second_task(
    site: Site, unique: Callable[[str], str]
) -> None:
    async with client(site) as ask:
        await queue(ask, "idle")
        project = unique("Alice")
        await task(ask, "old", project)
        order = Launch(choice=Choice(project=project), queue="idle", key=unique("key"))

        async def one(number: int) -> Run | None:
            if number == 2:
                await task(ask, "newer", project)  # whom a later look would choose
            return await launching.launch(ask.api, order, by="alice")

        found = await asyncio.gather(*(one(n) for n in range(6)))
        assert len({run.id for run in found if run is not None}) == 1
        # Moved to another queue it is another run, and the same task.
        (made,) = {run.id: run for run in found if run is not None}.values()
        from clearflow._prefect import pools
        from clearflow.queues import moves
        from clearflow.queues.line import Spot, Where

        there = await pools.ensure_queue(ask.api, POOL, "other")
        fresh = await runs.read(ask.api, made.id)
        await moves.move(ask.api, [fresh], Where(Spot.BACK, None), queue=there, by="bob")
        again = await launching.launch(ask.api, order, by="alice")
        assert again is not None
        assert again.task_id == made.task_id
        assert not await variables.starting_with(ask.api, "clearflow_launch_")
        # A copy of it by hand is not what was launched.
        from clearflow.tasks.clone import clone

        copied = await clone(ask.api, again, by="bob")
        assert not [tag for tag in copied.tags if tag.startswith(("launch:", "origin:"))]


async def test_missed_fires_are_made_up_for_as_the_policy_says(
    site: Site, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        wanted = [
            job(policy, base, cron="0 */6 * * *", missed=policy)
            for policy in ("all", "once", "skip")
        ]
        scheduler = await put(ask, unique("nights"), *wanted)
        now = ask.api.clock.now()
        due = now.replace(hour=now.hour // 6 * 6, minute=0, second=0, microsecond=0)
        for policy in ("all", "once", "skip"):
            await missing(ask, scheduler, policy, due - timedelta(hours=13))
        always(monkeypatch)
        # One job wakes, and all are looked at.
        await fire(ask, scheduler, "all", due)
        counts = {p: len(await launched(ask.api, scheduler, p)) for p in ("all", "once", "skip")}
        recent = int(now - due <= timedelta(minutes=5))
        assert counts == {"all": 3, "once": 1, "skip": recent}


async def test_what_was_due_when_another_schedule_was_removed_still_runs(
    site: Site, unique: Callable[[str], str]
) -> None:
    """Prefect deletes the due runs of every schedule of a deployment when one is deleted."""
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        asked = [job(name, base, cron="0 5 * * *") for name in ("kept", "gone")]
        scheduler = await put(ask, unique("nights"), *asked)
        jobs = {each.name: each for each in await schedulers.jobs(ask.api, scheduler)}
        waiting = [
            run
            async for schedule, run in schedules.coming(ask.api, scheduler.id)
            if schedule == jobs["kept"].schedule.id
        ]
        run = waiting[0]
        # Its moment comes: Prefect compares the place, and we the time it was made for.
        past = ask.api.clock.now() - timedelta(seconds=30)
        await runs.propose(ask.api, run.id, lifecycle.queued(Note("due"), past))
        made = await runs.read(ask.api, run.id)
        assert made.expected is not None
        real = schedules.coming

        async def due(api: Api, deployment: str) -> Any:
            from dataclasses import replace

            async for schedule, each in real(api, deployment):
                yield schedule, replace(each, expected=past) if each.id == run.id else each

        schedules.coming = due  # type: ignore[assignment]
        try:
            await engine.remove(ask.api, jobs["gone"])
        finally:
            schedules.coming = real
        where = {"idempotency_key": {"any_": [f"again {run.idempotency_key}"]}}
        (again,) = [each async for each in runs.find(ask.api, where)]
        assert again.parameters["firing"]["job"] == "kept"
        assert [j.name for j in await schedulers.jobs(ask.api, scheduler)] == ["kept"]


async def test_runs_that_have_nothing_left_to_do_are_ended_by_the_first(
    site: Site, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        names = ("a", "b", "c")
        at = ask.api.clock.now().replace(second=0, microsecond=0)
        asked = [job(name, base, cron=f"{at.minute} {at.hour} * * *") for name in names]
        scheduler = await put(ask, unique("nights"), *asked)
        for name in names:
            await missing(ask, scheduler, name, at - timedelta(minutes=1))
        always(monkeypatch)
        real, firsts = schedules.coming, set[str]()

        async def due(api: Api, deployment: str) -> Any:
            from dataclasses import replace

            # The first run of each job is due at that moment.
            async for schedule, each in real(api, deployment):
                first = schedule not in firsts
                firsts.add(schedule)
                yield schedule, replace(each, expected=at) if first else each

        monkeypatch.setattr(schedules, "coming", due)
        run = Run(id="1" * 8, name="a", state=None, deployment_id=scheduler.id, expected=at)
        wanted = Firing(scheduler=scheduler.name, project=scheduler.project, job="a")
        said: list[str] = []
        assert await firing.fire(ask.api, run, wanted, said.append) == 0
        assert len(said) == len(names)
        for name in names:
            assert len(await launched(ask.api, scheduler, name)) == 1
        of, ended_well = {"any_": [scheduler.id]}, {"type": {"any_": [COMPLETED]}}
        where = {"deployment_id": of, "state": ended_well}
        ended = [each async for each in runs.find(ask.api, where)]
        assert len(ended) == len(names)
        assert {each.note.text for each in ended} == {f"dealt with by run {run.id}"}


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"cron": "61 * * * *"}, Usage, "'61 * * * *' is no schedule"),
        ({"cron": "0 0 30 2 *"}, Usage, "would never run|is no schedule"),
        ({"timezone": "Mars/Olympus"}, Usage, "there is no time zone"),
        ({"launch": {"queue": "nowhere"}}, NotFound, "there is no queue 'nowhere'"),
        ({"launch": {"parameters": {"rate": 1}}}, Usage, "no parameter 'rate'"),
        ({"launch": {"parameters": {"General/lr": "${schedule.dat}"}}}, Usage, "nobody knows what"),
        ({"launch": {"overrides": {"gpu": 1}}}, Usage, "no 'gpu'"),
        ({"launch": {"task": None, "choice": {"project": "nobody's"}}}, NotFound, "there is no"),
        ({"launch": {"task": None, "deployment": "a/b"}}, NotFound, "no deployment 'a/b'"),
        ({"launch": {"task": None}}, Usage, "launch one thing"),
        ({"missed": "sometimes"}, Usage, "missed"),
        ({"direct": True, "missed": "once"}, Usage, "cannot be direct"),
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
        await queue(ask, "idle")
        base = await task(ask, "train", unique("Alice"))
        asked = job("bad", base, cron="0 5 * * *")
        asked = asked | change | {"launch": asked["launch"] | change.get("launch", {})}
        with pytest.raises(kind) as raised:
            await engine.put(ask.api, name := unique("s"), "Nights", [parsed(asked)], by="alice")
        assert any(each in raised.value.message for each in said.split("|")), raised.value.message
        assert "\n" not in raised.value.message
        assert not await schedulers.schedulers(ask.api, name, "Nights")


# -- ClearML's mistakes -----------------------------------------------------------------------


async def test_clearml_timeouts_were_ordered_by_task_id_and_collided(
    site: Site, unique: Callable[[str], str]
) -> None:
    """Each launched task carries its own limit, and its own supervisor keeps it."""
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        asked = [
            job(f"j{hours}", base, cron="0 5 * * *", launch={"time_limit_hours": hours})
            for hours in (3, 1, 2)
        ]
        scheduler = await put(ask, unique("nights"), *asked)
        await fire(ask, scheduler, "j1")
        at = (await schedulers.jobs(ask.api, scheduler))[0].next[0]
        for name in ("j2", "j3"):
            await fire(ask, scheduler, name, at)
        found = [(await launched(ask.api, scheduler, f"j{h}"))[0] for h in (1, 2, 3)]
        assert [r.job_variables["time_limit_seconds"] for r in found] == [3600, 7200, 10800]


async def test_clearml_single_instance_never_blocked_functions(
    site: Site, unique: Callable[[str], str]
) -> None:
    """It counts for whatever is launched: here for a deployment, of which there is no task."""
    async with client(site) as ask:
        flow = await ask.deploy("endings.py:completes", "cpu")
        launch = {"deployment": str(flow["id"]), "queue": "idle", "single_instance": True}
        asked = {"name": "alone", "launch": launch, "cron": "0 5 * * *"}
        scheduler = await put(ask, unique("nights"), asked)
        (shown,) = await schedulers.jobs(ask.api, scheduler)
        _, first = await fire(ask, scheduler, "alone", shown.next[0])
        _, second = await fire(ask, scheduler, "alone", shown.next[1])
        assert "launched" in first[0]
        assert "not launched" in second[0]
        (run,) = await launched(ask.api, scheduler, "alone")
        await runs.propose(ask.api, run.id, Write(COMPLETED, "Completed", Note("x"), force=True))
        await fire(ask, scheduler, "alone", shown.next[2])
        assert len(await launched(ask.api, scheduler, "alone")) == 2


async def test_clearml_unnamed_schedules_of_one_task_collapsed(
    site: Site, unique: Callable[[str], str]
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        twins = [parsed(job("same", base, cron=c)) for c in ("0 5 * * *", "0 6 * * *")]
        await queue(ask, "idle")
        with pytest.raises(Usage, match="two schedules have the name 'same'"):
            await engine.put(ask.api, unique("s"), "Nights", twins, by="alice")


async def test_clearml_compared_naive_with_aware_datetimes_and_knew_only_utc(
    site: Site, unique: Callable[[str], str]
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        zone = "Pacific/Auckland"
        once = {"year": 2031, "month": 1, "day": 2, "hour": 9, "timezone": zone}
        scheduler = await put(ask, unique("nights"), job("once", base, **once))
        (shown,) = await schedulers.jobs(ask.api, scheduler)
        wanted = datetime(2031, 1, 2, 9, tzinfo=launching_zone(zone))
        # Prefect makes runs a hundred days ahead at most.
        from clearflow.automation.jobs import upcoming

        assert upcoming(shown.schedule.schedule, ask.api.clock.now()) == [wanted.astimezone(UTC)]


async def test_clearml_reuse_task_made_a_clone_of_a_completed_one(
    site: Site, unique: Callable[[str], str]
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        launch = {"reuse": True, "queue": None, "parameters": {"General/lr": 0.5}}
        asked = job("again", base, cron="0 5 * * *", launch=launch)
        asked["launch"]["queue"] = "cpu"
        scheduler = await put(ask, unique("nights"), asked)
        (shown,) = await schedulers.jobs(ask.api, scheduler)
        _, lines = await fire(ask, scheduler, "again", shown.next[0])
        assert "launched again" in lines[0]
        now = await runs.resolve(ask.api, base.task_id)
        assert now.status(ask.api.clock.now()) in {"queued", "starting", "running", "completed"}
        assert now.parameters["General"]["lr"] == 0.5
        _, lines = await fire(ask, scheduler, "again", shown.next[1])
        assert "has not ended" in lines[0] or "launched again" in lines[0]


async def test_clearml_intervals_drifted_with_the_last_run(
    site: Site, unique: Callable[[str], str]
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        scheduler = await put(ask, unique("nights"), job("often", base, minute=15))
        (shown,) = await schedulers.jobs(ask.api, scheduler)
        assert {at.minute % 15 for at in shown.next} == {0}
        assert {at.second for at in shown.next} == {0}


async def test_clearml_a_dead_scheduler_went_unnoticed(
    site: Site, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has to run: what was due waits in the queue, and what Prefect forgot is made up."""
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"))
        scheduler = await put(ask, unique("nights"), job("daily", base, cron="0 5 * * *"))
        waiting = [run async for _, run in schedules.coming(ask.api, scheduler.id)]
        assert len(waiting) >= schedules.AHEAD
        assert {run.queue for run in waiting} == {"services"}
        await missing(ask, scheduler, "daily", ask.api.clock.now() - timedelta(hours=49))
        always(monkeypatch)
        run = Run(id="1" * 8, name="", state=None, deployment_id=scheduler.id)
        said: list[str] = []
        blank = Firing(scheduler=scheduler.name, project=scheduler.project)
        assert await firing.fire(ask.api, run, blank, said.append) == 0
        assert len(await launched(ask.api, scheduler, "daily")) == 2


# -- with an agent ----------------------------------------------------------------------------


PROGRAM = """
from clearflow import TaskScheduler

def count(to=3):
    print("counted", *range(to))

if __name__ == "__main__":
    scheduler = TaskScheduler({name!r}, "Nights")
    scheduler.add_task({task!r}, queue="cpu", name="now", execute_immediately=True,
                       day=1, hour=3, timezone="Europe/Berlin", task_parameters={{}})
    scheduler.add_task(schedule_function=count, queue="cpu", execute_immediately=True)
    try:
        scheduler.add_task({task!r}, queue="cpu", name="now", cron="0 1 * * *")
    except Exception as error:
        print(type(error).__name__, error)
    scheduler.start_remotely()
    print([each["name"] for each in scheduler.get_scheduled_tasks()])
"""


@pytest.mark.timeout(300)
async def test_an_agent_launches_what_is_due_and_the_command_line_sees_it(
    site: Site, unique: Callable[[str], str], tmp_path: Path
) -> None:
    async with client(site) as ask:
        base = await task(ask, "train", unique("Alice"), parameters={})
        name = unique("nights")
        site.agent("services", "cpu", slots=2)
        program = tmp_path / "nights.py"
        program.write_text(PROGRAM.format(name=name, task=base.task_id))
        done = python(site, str(program))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].startswith("Usage two schedules have the name 'now'")
        assert done.stdout.splitlines()[-1] == "['now', 'count']"
        (scheduler,) = await schedulers.schedulers(ask.api, name, "Nights")

        async def both() -> list[Run]:
            found = [await launched(ask.api, scheduler, job) for job in ("now", "count")]
            return [run for some in found for run in some] if all(found) else []

        run, counted = await wait_until_async(both, 60, what="the tasks that are launched at once")
        for each in (run, counted):
            ended = await ask.ended(each.task_id)
            assert ended.state is not None
            assert ended.state.type == COMPLETED, await ask.report(each.task_id)
        assert "counted 0 1 2" in await ask.console(counted.task_id)
        where = {
            "deployment_id": {"any_": [scheduler.id]},
            "state": {"type": {"any_": [COMPLETED]}},
        }
        fired = [each async for each in runs.find(ask.api, where)]
        closed(tmp_path / "long.go")
        words = {"folder": str(tmp_path), "name": "long"}
        limited = await ask.enqueue("patient.py:until_told", "cpu", words, time_limit_seconds=1)
        over = await ask.ended(limited)
        assert over.status(ask.api.clock.now()) == "aborted", await ask.report(limited)
        assert "its time limit of 1 s" in over.note.text
        told = [line for each in fired for line in await ask.console(each.id)]
        assert any(run.id in line for line in told)
        rows = json.loads(clearflow("schedule", "ls", "--scheduler", name, "--json").stdout)
        assert [(r["name"], r["launched"], r["task"]) for r in rows] == [("now", 1, run.task_id)]
        assert rows[0]["next"][0].endswith(("+01:00", "+02:00"))
        assert clearflow("schedule", "pause", "now", "--scheduler", name).returncode == 0
        (row,) = json.loads(clearflow("schedule", "ls", "--scheduler", name, "--json").stdout)
        assert (row["active"], row["next"]) == (False, [])
        assert row["launch"]["task"] == base.task_id  # which Prefect would forget
        assert clearflow("schedule", "resume", "now", "--scheduler", name).returncode == 0
        file = tmp_path / "schedules.yaml"
        file.write_text(
            json.dumps(
                {
                    "scheduler": name,
                    "project": "Nights",
                    "schedules": [
                        {
                            "name": "soon",
                            "launch": {"task": base.task_id, "queue": "cpu"},
                            "cron": "* * * * *",
                            "direct": True,
                        }
                    ],
                }
            )
        )
        done = clearflow("schedule", "apply", str(file), "--json")
        assert done.returncode == 0, done.stderr
        assert [(d["name"], d["done"]) for d in json.loads(done.stdout)] == [
            ("soon", "added"),
            ("now", "removed"),
        ]
        (soon,) = await schedulers.jobs(ask.api, scheduler)
        assert (soon.name, soon.direct, len(soon.next) >= 2) == ("soon", True, True)
        assert clearflow("schedule", "run-now", "soon").returncode == 0
        assert clearflow("schedule", "rm", "soon", "--yes").returncode == 0
        assert clearflow("schedule", "rm", "soon", "--yes").returncode == 3
        with pytest.raises(NotFound):
            await deployments.read(ask.api, soon.schedule.deployment)
