"""What `clearflow-launch` does when it is woken: launch what is due, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from clearflow._prefect import claims, runs, schedules, variables
from clearflow._prefect.http import Api
from clearflow._prefect.schedules import Schedule
from clearflow.automation import launching, schedulers
from clearflow.automation.jobs import Firing, upcoming
from clearflow.automation.schedulers import Scheduler, cursor_name, origin
from clearflow.errors import ClearflowError, NotFound, Unreachable
from clearflow.tasks import results
from clearflow.words import calendar, fires, references, templates
from clearflow.words.fires import Cursor
from clearflow.words.lifecycle import Write
from clearflow.words.models import COMPLETED, Run
from clearflow.words.parameters import flat

Say = Callable[[str], None]
_SOON = timedelta(seconds=5)


async def fire(api: Api, run: Run, firing: Firing, say: Say) -> int:
    """Deal with all that is due of the scheduler whose run this is; how many launches failed.

    What this very run was made for is always dealt with. What others were made for is found as
    well, so that they have nothing left to do.
    """
    assert run.deployment_id is not None
    scheduler = await schedulers.read(api, run.deployment_id)
    if firing.now and firing.launch is not None:
        return await _at_once(api, scheduler, firing, say)
    now = api.clock.now()
    # The server's time is known to two seconds: what it has woken is due.
    own = run.expected if firing.job else None
    if own is not None and now < own <= now + _SOON:
        now = own
    failed = done = 0
    reached: dict[str, datetime] = {}
    for each in await schedules.of(api, scheduler.id):
        if not each.active or not each.parameters.get("firing"):
            continue
        job = Firing.model_validate(each.parameters["firing"])
        mine = own if job.job == firing.job else None
        at, count, wrong = await _job(api, scheduler, each, job, mine, now, say)
        reached[each.id] = at
        done, failed = done + count, failed + wrong
    if not done:
        say(f"{firing.job or scheduler.name}: nothing to do; it was dealt with, or is paused")
    await _complete_siblings(api, scheduler, run, reached)
    return failed


async def _job(
    api: Api,
    scheduler: Scheduler,
    schedule: Schedule,
    job: Firing,
    own: datetime | None,
    now: datetime,
    say: Say,
) -> tuple[datetime, int, int]:
    """Deal with what is due of one job: how far it has come then, how many fires, how many of the
    launches went wrong.
    """
    name = cursor_name(scheduler.id, job.job)
    known = await variables.read(api, name)
    since = schedule.since or now
    cursor = Cursor.parse(known) if known else Cursor(since)
    start = max(cursor.at, since)
    due = [at for at in upcoming(schedule.schedule, start, now) if at > cursor.at]
    if own is not None and own > cursor.at:
        due.append(own)
    if not due:
        return cursor.at, 0, 0
    plan = fires.plan(due, now, job.missed)
    if plan.passed:
        say(f"{job.job}: {plan.passed} missed fires passed over (missed={job.missed!r})")
    failed = 0
    for at in plan.launch:
        key = fires.key(f"{scheduler.id} {job.job}", at)
        cursor, good = await _launch(api, scheduler, job, at, key, cursor, say)
        failed += not good
    # Whoever has somebody run it before its time moves no other fire.
    cursor = Cursor(max([start, *(at for at in due if at <= now)]), cursor.number, cursor.task)
    await variables.write(api, name, cursor.dump())
    return cursor.at, len(due), failed


async def _launch(
    api: Api, scheduler: Scheduler, job: Firing, at: datetime, key: str, cursor: Cursor, say: Say
) -> tuple[Cursor, bool]:
    assert job.launch is not None
    zone = calendar.zone(job.zone)
    local = at.astimezone(zone)
    who = f"schedule {job.job!r} of {scheduler.project} · {scheduler.name}"
    order = job.launch.model_copy(
        update={
            "key": key,
            "origin": origin(scheduler.id, job.job),
            "cause": f"{who}, due {local:%Y-%m-%d %H:%M %Z}",
        }
    )
    number = cursor.number + 1

    def told(text: str) -> None:
        say(f"{job.job}, due {local:%Y-%m-%d %H:%M:%S %Z}: {text}")

    try:
        context = await _context(api, scheduler, job, at, local, cursor)
        made = await launching.launch(
            api, order, by=job.by or "a schedule", context=context, say=told
        )
    except Unreachable:
        raise
    except ClearflowError as error:
        told(f"cannot be launched: {error.message}")
        return Cursor(at, cursor.number, cursor.task), False
    if made is None:
        return Cursor(at, cursor.number, cursor.task), True
    return Cursor(at, number, made.task_id), True


async def _at_once(api: Api, scheduler: Scheduler, firing: Firing, say: Say) -> int:
    """Launch one job beside its times: its next fire is not touched."""
    name = cursor_name(scheduler.id, firing.job)
    known = await variables.read(api, name)
    now = api.clock.now()
    cursor = Cursor.parse(known) if known else Cursor(now)
    key = f"{scheduler.id} {firing.job} {firing.now}"
    after, good = await _launch(api, scheduler, firing, now, key, cursor, say)
    at = cursor.at if known else now
    await variables.write(api, name, Cursor(at, after.number, after.task).dump())
    return 0 if good else 1


async def _context(
    api: Api, scheduler: Scheduler, job: Firing, at: datetime, local: datetime, cursor: Cursor
) -> dict[str, Any]:
    """What the templates of a job stand for; what was before is asked for only where it is used."""
    assert job.launch is not None
    said = fires.context(
        name=job.job,
        scheduler=scheduler.name,
        project=scheduler.project,
        at=at,
        local=local,
        number=cursor.number + 1,
    )
    asked = [
        name.partition(".")[2]
        for name in templates.references(job.launch.model_dump())
        if name.startswith("previous.")
    ]
    return {"schedule": said, "previous": await _previous(api, cursor, asked)}


async def _previous(api: Api, cursor: Cursor, asked: Sequence[str]) -> dict[str, Any]:
    """Of the task that was launched last; nothing, in each place, when there is none."""
    found: dict[str, Any] = {name: None for name in asked}
    if not asked or cursor.task is None:
        return found
    try:
        run = await runs.resolve(api, cursor.task)
    except NotFound:
        return found
    known: dict[str, Any] = {
        "id": run.task_id,
        "status": run.status(api.clock.now()),
        "url": api.connection.run_url(run.id),
        "number": cursor.number,
    }
    known |= {f"parameters.{name}": value for name, value in flat(run.parameters).items()}
    if any(name.startswith("values.") for name in asked):
        values = await results.values(api, run.id)
        known |= {f"values.{name}": value for name, value in values.items()}
    if any(name.startswith("artifacts.") for name in asked):
        known |= {
            f"artifacts.{each.name}": references.address(run.task_id, each.name)
            for each in await results.stored(api, run.id)
        }
    return {name: known.get(name) for name in asked}


async def _complete_siblings(
    api: Api, scheduler: Scheduler, run: Run, reached: Mapping[str, datetime]
) -> None:
    """End the runs that wait for what has been dealt with; each would find nothing to do."""
    async for schedule, other in schedules.coming(api, scheduler.id):
        at = reached.get(schedule)
        if other.id == run.id or other.expected is None or at is None or other.expected > at:
            continue
        held = await claims.hold(api, other, "clearflow-launch", "dealt with")
        if held is None:
            continue
        note = held.but(f"dealt with by run {run.id}", agent=None, claim=None)
        await claims.put_back(api, other.id, Write(COMPLETED, "Completed", note, over=held.claim))
