"""Making schedules so, changing them, and taking them away."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from clearflow._prefect import deployments, pools, runs, schedules, variables
from clearflow._prefect.http import Api
from clearflow.automation import checking, direct, launching, turns
from clearflow.automation.direct import Plan
from clearflow.automation.forms import form
from clearflow.automation.jobs import Firing, Job, refuse_direct
from clearflow.automation.schedulers import (
    DIRECT,
    ENTRYPOINT,
    TAG,
    Scheduler,
    Shown,
    cursor_name,
    cursors_of,
    jobs,
    parsed,
    there,
)
from clearflow.errors import NotFound, Refused, Usage
from clearflow.settings import settings
from clearflow.words import fires, lifecycle
from clearflow.words.models import Run
from clearflow.words.names import DEPLOYMENT, flow_name, labels, stored, tags
from clearflow.words.notes import Note


async def check(api: Api, wanted: Sequence[Job]) -> list[Plan]:
    """Raise what is wrong with jobs, in one line that names the job; nothing is made."""
    names = [job.name for job in wanted]
    for name in names:
        if names.count(name) > 1:
            raise Usage(f"two schedules have the name {name!r}", hint="each needs its own")
    plans = []
    known: dict[str, launching.Source] = {}
    for job in wanted:
        same = job.launch.model_dump_json(include={"task", "choice", "deployment", "queue"})
        try:
            when = job.when(api.clock.now())
            if job.direct:
                refuse_direct(job)
            source = await checking.check(api, job.launch, fires.KNOWN, known.get(same))
            known[same] = source
        except (Usage, NotFound) as wrong:
            raise type(wrong)(f"schedule {job.name!r}: {wrong.message}", hint=wrong.hint) from None
        plans.append(Plan(job, when, source))
    return plans


async def put(
    api: Api,
    name: str,
    project: str,
    wanted: Sequence[Job],
    *,
    by: str,
    queue: str = fires.QUEUE,
    exactly: bool = False,
) -> list[tuple[str, str]]:
    """Make it so: the scheduler has these jobs; with `exactly` no others. What was done for each.

    A job of the same name is replaced. Raises Usage and NotFound before anything is made.
    """
    plans = await check(api, wanted)
    scheduler = await _ensure(api, name, project, queue)
    before = {each.name: each for each in await jobs(api, scheduler)}
    done: list[tuple[str, str]] = []
    new: list[Plan] = []
    changed: list[Plan] = []
    for plan in plans:
        old = before.get(plan.job.name)
        if old is not None and _same(old, plan, scheduler, by):
            done.append((plan.job.name, "unchanged"))
            continue
        if old is not None and await _changed(api, old, plan, scheduler, by):
            changed.append(plan)
        else:
            new.append(plan)
        done.append((plan.job.name, "added" if old is None else "changed"))
    launched = [plan for plan in new if plan.when is not None and not plan.job.direct]
    if launched:
        await schedules.add(api, scheduler.id, [_body(p, scheduler, by) for p in launched])
    if launched or changed:
        await schedules.make_runs(api, scheduler.id)
    await direct.add(api, scheduler, [p for p in new if p.job.direct], by)
    for plan in [*new, *changed]:
        if plan.job.execute_immediately:
            firing = _firing(plan, scheduler, by)
            digest = hashlib.sha256(firing.model_dump_json().encode()).hexdigest()[:8]
            await _fire(api, scheduler, firing, f"at once {digest}", by)
    if exactly:
        for each in before.values():
            if each.name not in {job.name for job in wanted}:
                await _remove(api, each)
                done.append((each.name, "removed"))
    return done


async def _changed(api: Api, old: Shown, plan: Plan, scheduler: Scheduler, by: str) -> bool:
    """Change a job where it stands, so that what is due stays; False: it has to be made anew."""
    if old.direct or plan.job.direct or plan.when is None:
        await _remove(api, old)
        return False
    body = _body(plan, scheduler, by)
    del body["slug"]
    await schedules.change(api, old.schedule, **body)
    return True


async def _ensure(api: Api, name: str, project: str, queue: str) -> Scheduler:
    pool = settings().pool
    await pools.ensure_queue(api, pool, queue)
    known = await there(api, name, project)
    if known is not None:
        if known.queue != stored(queue):
            raise Refused(
                f"the scheduler {name!r} belongs to the queue {known.queue!r}",
                hint="remove it first, or use that queue",
            )
        return known
    made = await deployments.ensure(
        api,
        flow=flow_name(project, name),
        name=DEPLOYMENT,
        pool=pool,
        queue=stored(queue),
        entrypoint=ENTRYPOINT,
        parameters={"firing": Firing(scheduler=name, project=project).dump()},
        parameters_schema=form("firing", Firing),
        tags=[TAG, *tags(project)],
        labels=labels(name, project),
        description="Launches tasks when they are due; each of its schedules is one job.",
        job_variables={"gpus": 0},
    )
    return parsed(made)


def _firing(plan: Plan, scheduler: Scheduler, by: str) -> Firing:
    job = plan.job
    return Firing(
        scheduler=scheduler.name,
        project=scheduler.project,
        job=job.name,
        words=plan.when.words if plan.when else "at once",
        zone=job.timezone,
        missed=job.missed,
        launch=job.launch,
        by=by,
    )


def _body(plan: Plan, scheduler: Scheduler, by: str) -> dict[str, Any]:
    assert plan.when is not None
    return {
        "schedule": dict(plan.when.schedule),
        "slug": plan.job.name,
        "active": plan.job.active,
        "parameters": {"firing": _firing(plan, scheduler, by).dump()},
    }


def _same(old: Shown, plan: Plan, scheduler: Scheduler, by: str) -> bool:
    """Whether a job is there as it is asked for; what is once only is asked for anew."""
    if plan.when is None or plan.job.execute_immediately or plan.job.direct != old.direct:
        return False
    if old.direct or not plan.job.recurring or plan.job.active != old.schedule.active:
        return False
    asked = _body(plan, scheduler, by)
    known = {k: v for k, v in old.schedule.schedule.items() if k in asked["schedule"]}
    same_time = _time(known) == _time(asked["schedule"])
    return same_time and old.schedule.parameters == asked["parameters"]


def _time(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule without what the server writes in another way."""
    return {k: v for k, v in schedule.items() if k != "anchor_date"}


# -- changing ---------------------------------------------------------------------------------


async def pause(api: Api, job: Shown, *, active: bool) -> None:
    """Switch a job off or on. What was due while it was off is not made up for."""
    await schedules.change(api, job.schedule, active=active)
    await schedules.make_runs(api, job.schedule.deployment)


async def remove(api: Api, job: Shown) -> None:
    """Remove a job; the tasks that it has launched stay."""
    await _remove(api, job)


async def _remove(api: Api, job: Shown) -> None:
    gone = job.schedule
    # Prefect deletes the due runs of the deployment's other schedules with it.
    now = api.clock.now()
    lost = [
        run
        async for schedule, run in schedules.coming(api, gone.deployment)
        if schedule != gone.id and run.expected is not None and run.expected <= now
    ]
    await schedules.remove(api, gone)
    for run in lost:
        await _remake(api, gone.deployment, run)
    if not job.direct:
        await variables.delete(api, cursor_name(job.scheduler.id, job.name))
    rest = await schedules.of(api, gone.deployment)
    if rest:
        await schedules.make_runs(api, gone.deployment)
    elif job.direct:
        await deployments.delete(api, gone.deployment)


async def _remake(api: Api, deployment: str, run: Run) -> None:
    note = Note("due already when another schedule was removed", since=run.expected)
    key = run.idempotency_key
    await runs.create(
        api,
        await deployments.read(api, deployment),
        write=lifecycle.queued(note, run.expected),
        parameters=run.parameters,
        tags=[t for t in run.tags if t != "auto-scheduled"],
        labels=run.labels,
        idempotency_key=f"again {key}" if key else None,
    )


async def remove_scheduler(api: Api, of: Scheduler) -> None:
    """Remove a scheduler with all of its jobs; the tasks that they have launched stay."""
    for item in await schedules.tagged(api, [f"{DIRECT}{of.id}"]):
        await deployments.delete(api, str(item["id"]))
    for name in await variables.starting_with(api, cursors_of(of.id)):
        await variables.delete(api, name)
    await turns.give_back(api, of.id)
    await deployments.delete(api, of.id)


async def run_now(api: Api, job: Shown, *, by: str) -> Run:
    """Launch a job at once, beside its times; the run that does it, or the task of a direct one."""
    if job.direct:
        return await runs.create(
            api,
            await deployments.read(api, job.schedule.deployment),
            write=lifecycle.queued(Note(f"queued by {by}", by=by)),
            parameters=job.schedule.parameters,
        )
    firing = Firing.model_validate(job.schedule.parameters["firing"])
    return await _fire(api, job.scheduler, firing, f"now {lifecycle.claim_token()}", by)


async def _fire(api: Api, of: Scheduler, firing: Firing, now: str, by: str) -> Run:
    asked = firing.model_copy(update={"now": now})
    return await runs.create(
        api,
        await deployments.read(api, of.id),
        write=lifecycle.queued(Note(f"queued by {by}", by=by)),
        name=firing.job,
        queue=of.queue,
        parameters={"firing": asked.dump()},
        tags=[TAG, *tags(of.project, by)],
        labels=labels(of.name, of.project),
        idempotency_key=f"{of.id} {firing.job} {now}",
    )
