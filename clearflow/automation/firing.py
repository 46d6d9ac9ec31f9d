"""What `clearflow-launch` does when it is woken: launch what is due, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clearflow._prefect import bulk, claims, many, runs, schedules, variables
from clearflow._prefect.http import Api
from clearflow._prefect.schedules import Schedule
from clearflow.automation import launching, schedulers, turns
from clearflow.automation.jobs import Firing, upcoming
from clearflow.automation.schedulers import Scheduler, cursor_name, cursors_of, origin
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
    while (fresh := await turns.take(api, scheduler.id, run.id)) is None:
        if own is not None and await _reached(api, scheduler, firing.job) >= own:
            say(f"{firing.job}: nothing to do; it was dealt with")
            return 0
        await asyncio.sleep(random.uniform(0.5, 1.5))
    found = await _found(api, scheduler, firing.job, own, now)
    due = [each for each in found if each.plan is not None]
    known = launching.Known(fresh)
    with bulk.together(api, fresh=fresh):
        failed = await many.each(
            due, lambda each: _deal_with(api, scheduler, each, known, say), width=bulk.WIDTH
        )
    # Last: that a task is there matters to those who wait for it, how far a job has come does not.
    await many.each(due, lambda each: _keep(api, scheduler, each), width=many.WIDTH)
    await turns.give_back(api, scheduler.id)
    if not due:
        say(f"{firing.job or scheduler.name}: nothing to do; it was dealt with, or is paused")
    await _complete_siblings(api, scheduler, run, {e.schedule.id: e.cursor.at for e in found})
    return sum(failed)


@dataclass
class _Job:
    """One job, how far it has come, and what is to be done about it now, if anything."""

    schedule: Schedule
    job: Firing
    cursor: Cursor
    since: datetime
    plan: fires.Plan | None = None
    reaches: datetime | None = None
    new: bool = False


async def _reached(api: Api, scheduler: Scheduler, job: str) -> datetime:
    known = await variables.read(api, cursor_name(scheduler.id, job))
    return Cursor.parse(known).at if known else datetime.min.replace(tzinfo=UTC)


async def _found(
    api: Api, scheduler: Scheduler, mine: str, own: datetime | None, now: datetime
) -> list[_Job]:
    """The jobs that are switched on, with what is due of each; of `mine` its own moment is."""
    listed, cursors = await asyncio.gather(
        schedules.of(api, scheduler.id), variables.starting_with(api, cursors_of(scheduler.id))
    )
    found = []
    for schedule in listed:
        if not schedule.active or not schedule.parameters.get("firing"):
            continue
        job = Firing.model_validate(schedule.parameters["firing"])
        known = cursors.get(cursor_name(scheduler.id, job.job))
        since = schedule.since or now
        cursor = Cursor.parse(known) if known else Cursor(since)
        each = _Job(schedule, job, cursor, max(cursor.at, since), new=known is None)
        due = [at for at in upcoming(schedule.schedule, each.since, now) if at > cursor.at]
        if own is not None and job.job == mine and own > cursor.at:
            due.append(own)
        if due:
            each.plan = fires.plan(due, now, job.missed)
            # Whoever has somebody run it before its time moves no other fire.
            each.reaches = max([each.since, *(at for at in due if at <= now)])
        found.append(each)
    return found


async def _deal_with(
    api: Api, scheduler: Scheduler, each: _Job, known: launching.Known, say: Say
) -> int:
    """Launch what is due of one job, the oldest first; how many of the launches went wrong."""
    assert each.plan is not None
    job, failed = each.job, 0
    if each.plan.passed:
        passed = each.plan.passed
        say(f"{job.job}: {passed} missed fires passed over (missed={job.missed!r})")
    for at in each.plan.launch:
        key = fires.key(f"{scheduler.id} {job.job}", at)
        each.cursor, good = await _launch(api, scheduler, job, at, key, each.cursor, say, known)
        failed += not good
    return failed


async def _keep(api: Api, scheduler: Scheduler, each: _Job) -> None:
    """Write down how far a job has come."""
    assert each.reaches is not None
    each.cursor = Cursor(each.reaches, each.cursor.number, each.cursor.task)
    name = cursor_name(scheduler.id, each.job.job)
    await variables.write(api, name, each.cursor.dump(), new=each.new)


async def _launch(
    api: Api,
    scheduler: Scheduler,
    job: Firing,
    at: datetime,
    key: str,
    cursor: Cursor,
    say: Say,
    known: launching.Known | None = None,
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
            api, order, by=job.by or "a schedule", context=context, say=told, known=known
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
    waiting = []
    async for schedule, other in schedules.coming(api, scheduler.id):
        at = reached.get(schedule)
        if at is None or other.expected is None:
            continue
        if other.expected <= at and other.id != run.id:
            waiting.append(other)

    async def complete(other: Run) -> None:
        held = await claims.hold(api, other, "clearflow-launch", "dealt with")
        if held is None:
            return
        note = held.but(f"dealt with by run {run.id}", agent=None, claim=None)
        await claims.put_back(api, other.id, Write(COMPLETED, "Completed", note, over=held.claim))

    await many.each(waiting, complete, width=many.WIDTH)
