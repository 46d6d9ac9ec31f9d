"""What `clearflow-trigger` does when it is woken: launch what an event asks for, once.

The key of a launch is (trigger, event), so whoever hears of an event twice launches one task. What
no automation has seen, because the server was killed at that moment, is found by whoever looks
later: stored events without a run that was made for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from clearflow import clock
from clearflow._prefect import claims, events, runs, schedules, variables
from clearflow._prefect.events import FLOW_RUN, Event
from clearflow._prefect.http import Api
from clearflow.automation import launching, triggers
from clearflow.automation.launching import Launch
from clearflow.automation.reactions import Reaction, Told, Trigger
from clearflow.automation.triggers import Group, Shown, cursor_name
from clearflow.errors import ClearflowError, NotFound, Unreachable
from clearflow.tasks import find as finding
from clearflow.tasks.describe import name_of, tags_of
from clearflow.words import templates
from clearflow.words import triggers as words
from clearflow.words.launches import origin_tag
from clearflow.words.lifecycle import Write
from clearflow.words.models import COMPLETED, Run
from clearflow.words.names import HERE
from clearflow.words.parameters import flat
from clearflow.words.triggers import Fact

Say = Callable[[str], None]
_SETTLED = timedelta(minutes=1)
"""So old an event is when its automation has had all the time it needs."""
_KEPT = timedelta(days=7)
"""So long the server keeps events by default."""


async def react(api: Api, reaction: Reaction, say: Say) -> int:
    """Launch what the event of a reaction asks for; how many launches failed."""
    assert reaction.trigger is not None
    assert reaction.event is not None
    group = Group(reaction.group, reaction.scheduler, reaction.project, "")
    event = _event(reaction.event)
    return 0 if await _one(api, group, reaction.trigger, event, None, reaction.by, say) else 1


def _event(told: Told) -> Event:
    occurred = clock.parse(told.occurred.replace(" ", "T", 1)) if told.occurred else None
    return Event(told.name, told.resource, {}, told.payload, occurred=occurred, id=told.id)


async def _one(
    api: Api, group: Group, trigger: Trigger, event: Event, run: Run | None, by: str, say: Say
) -> bool:
    """Deal with one event for one trigger; False when the launch went wrong."""

    def told(text: str) -> None:
        say(f"{trigger.name}: {text}")

    if run is None and event.run_id is not None:
        run = await _run(api, event.run_id)
    fact = fact_of(event, run)
    if fact is None:
        told(f"{event.name} of {event.resource}: nothing that a trigger waits for")
        return True
    why = words.misfit(trigger.when(), fact)
    if why is None and trigger.metric is not None:
        mine = words.metric_key(group.id, trigger.name)
        why = None if fact.trigger == mine else "it was asked for by another trigger"
    if why is None:
        why, run = await _ours(api, group, trigger, fact, run)
    if why is not None:
        told(f"not launched: {fact.words}, but {why}")
        return True
    try:
        await launching.launch(
            api,
            _order(api, group, trigger, fact, event, run),
            by=by or "a trigger",
            context=await _context(api, group, trigger, fact, event, run),
            say=lambda text: told(f"{fact.words}: {text}"),
        )
    except Unreachable:
        raise
    except ClearflowError as error:
        told(f"{fact.words}: cannot be launched: {error.message}")
        return False
    return True


def fact_of(event: Event, run: Run | None) -> Fact | None:
    """What happened, of an event; of one about a run's state with the run as it is now."""
    if event.run_id is None:
        head, kind, what = (*event.name.split("."), "", "")[:3]
        return Fact.parse(kind, what, event.payload) if head == "clearflow" else None
    status = words.status_of(event.name.removeprefix(FLOW_RUN))
    if status is None or run is None or run.part:
        return None
    if any(tag.startswith("clearflow:") and tag != HERE for tag in run.tags):
        return None  # what launches tasks, or an application
    return Fact(
        words.TASK,
        status,
        run.task_id,
        name_of(run),
        str(run.labels.get("clearflow.project") or run.project or ""),
        tags=tuple(tags_of(run)),
        status=status,
        by=run.owner or "",
    )


async def _run(api: Api, run_id: str) -> Run | None:
    try:
        return await runs.read(api, run_id)
    except NotFound:
        return None


async def _ours(
    api: Api, group: Group, trigger: Trigger, fact: Fact, run: Run | None
) -> tuple[str | None, Run | None]:
    """Why not, for a task's sake: the trigger has launched it itself, or no agent runs it."""
    doer = fact.id if fact.kind == words.TASK else fact.task
    if doer is None:
        return None, run
    if run is None:
        try:
            run = await runs.resolve(api, doer)
        except NotFound:
            return None, None
    if origin_tag(group.origin(trigger.name)) in run.tags:
        return "this trigger has launched the task that did it", run
    if trigger.exclude_local and fact.kind == words.TASK and HERE in run.tags:
        return "no agent runs the task", run
    return None, run


def _order(
    api: Api, group: Group, trigger: Trigger, fact: Fact, event: Event, run: Run | None
) -> Launch:
    origin = group.origin(trigger.name)
    link = f"clearflow.{fact.kind}.{fact.id}"
    if fact.kind == words.TASK:
        link = api.connection.run_url(run.id if run is not None else fact.id)
    return trigger.order.model_copy(
        update={
            "key": f"{origin} {event.id}",
            "origin": origin,
            "cause": f"trigger {trigger.name!r} of {group.project} · {group.name}: {fact.words}",
            "links": {fact.kind: link, "event": event.id},
        }
    )


async def _context(
    api: Api, group: Group, trigger: Trigger, fact: Fact, event: Event, run: Run | None
) -> dict[str, Any]:
    about = words.context(fact)
    if fact.kind == words.TASK:
        about["url"] = api.connection.run_url(run.id if run is not None else fact.id)
        asked = templates.references(trigger.order.model_dump())
        start = f"{words.TASK}.parameters."
        known = flat(run.parameters) if run is not None else {}
        for name in (each.removeprefix(start) for each in asked if each.startswith(start)):
            about[f"parameters.{name}"] = known.get(name)
    return {
        fact.kind: about,
        "trigger": {"name": trigger.name, "scheduler": group.name, "project": group.project},
        "event": {"id": event.id, "name": event.name, "time": event.occurred},
    }


# -- what was missed --------------------------------------------------------------------------


async def catch_up(api: Api, run: Run, say: Say) -> int:
    """Launch what no automation has seen, of the group whose run this is; how many failed."""
    assert run.deployment_id is not None
    group = triggers.group_of(await api.get(f"/deployments/{run.deployment_id}"))
    now = api.clock.now()
    until = now - _SETTLED
    known = await variables.read(api, cursor_name(group.id))
    since = max(clock.parse(known), now - _KEPT) if known else until
    failed = found = 0
    if since < until:
        asked = [each for each in await triggers.of(api, group) if each.active]
        for shown, event, of in await _missed(api, group, asked, since, until):
            found += 1
            by = str((shown.automations[0].parameters.get("reaction") or {}).get("by") or "")
            failed += not await _one(api, group, shown.trigger, event, of, by, say)
        await variables.write(api, cursor_name(group.id), until.isoformat())
    if not found:
        say(f"{group.name}: nothing was missed since {since:%Y-%m-%d %H:%M:%S}")
    await _complete_others(api, group, run, now)
    return failed


async def _missed(
    api: Api, group: Group, asked: Iterable[Shown], since: datetime, until: datetime
) -> list[tuple[Shown, Event, Run | None]]:
    """Events that fit a trigger and for which no run was made, the oldest first."""
    waits = [(each, set(words.expected(each.trigger.when()))) for each in asked]
    names = sorted({name for _, some in waits for name in some})
    if not names:
        return []
    stored = [
        event
        async for event in events.happened(api, names, since)
        if event.occurred is not None and event.occurred <= until
    ]
    seen = await _dealt_with(api, group, since)
    of = await _runs_of(api, stored)
    found: list[tuple[Shown, Event, Run | None]] = []
    for event in stored:
        run = of.get(event.run_id or "")
        fact = fact_of(event, run)
        for each, expected in waits:
            if fact is None or event.name not in expected or (each.trigger.name, event.id) in seen:
                continue
            if event.occurred is None or event.occurred <= _switched(each, since):
                continue
            if words.misfit(each.trigger.when(), fact) is None:
                found.append((each, event, run))
    return found


def _switched(each: Shown, since: datetime) -> datetime:
    """When a trigger was made, changed or switched on: nothing before that is made up for."""
    return max((a.updated for a in each.automations if a.updated), default=since)


async def _dealt_with(api: Api, group: Group, since: datetime) -> set[tuple[str, str]]:
    """The triggers and events for which runs were made."""
    where = {
        "deployment_id": {"any_": [group.id]},
        "expected_start_time": {"after_": since.isoformat()},
    }
    found = set()
    async for run in runs.find(api, where):
        said: Mapping[str, Any] = run.parameters.get("reaction") or {}
        if said.get("event") and said.get("trigger"):
            found.add((str(said["trigger"]["name"]), str(said["event"]["id"])))
    return found


async def _runs_of(api: Api, stored: Iterable[Event]) -> dict[str, Run]:
    ids = sorted({event.run_id for event in stored if event.run_id is not None})
    return {run.id: run for run in await finding.by_runs(api, ids)}


async def _complete_others(api: Api, group: Group, run: Run, now: datetime) -> None:
    """End the runs that wait to look as well: nothing is left for them."""
    async for _, other in schedules.coming(api, group.id):
        if other.id == run.id or other.expected is None or other.expected > now:
            continue
        held = await claims.hold(api, other, "clearflow-trigger", "dealt with")
        if held is None:
            continue
        note = held.but(f"dealt with by run {run.id}", agent=None, claim=None)
        await claims.put_back(api, other.id, Write(COMPLETED, "Completed", note, over=held.claim))
