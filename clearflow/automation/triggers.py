"""Triggers: making them so, listing, changing them, and taking them away.

A group of triggers is a deployment of `clearflow-trigger`; each trigger is an automation that runs
it when an event comes that may be the one. What an automation cannot express is decided there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from clearflow._prefect import automations, deployments, runs, schedules, variables
from clearflow._prefect.automations import Automation, exactly
from clearflow._prefect.events import FLOW_RUN
from clearflow._prefect.events import TAG as TAG_LABEL
from clearflow._prefect.http import Api
from clearflow.automation import checking, homes
from clearflow.automation.homes import Home
from clearflow.automation.reactions import EVENT, Reaction, Trigger
from clearflow.errors import NotFound, Usage
from clearflow.words import entries, launches, triggers
from clearflow.words.names import stored, tags
from clearflow.words.triggers import When

NAME, PROJECT, QUEUE = "triggers", "Triggers", "services"
ENTRYPOINT = "clearflow.apps.trigger.trigger"
TAG = "clearflow:triggers"
IN = "clearflow:trigger-of:"
CURSOR = "clearflow_triggers_"
_MARK = "⚡ "
"""How the flows of groups begin, so that no automation runs them because they ran."""
CATCHES_UP = timedelta(minutes=15)
"""So often somebody looks for events that no automation has seen: when the server was killed."""

_HOME = Home(
    ENTRYPOINT,
    "reaction",
    Reaction,
    TAG,
    "Launches tasks when something happens; each trigger is an automation.",
)


@dataclass(frozen=True, slots=True)
class Group:
    """A group of triggers as it is on the server."""

    id: str
    name: str
    project: str
    queue: str

    def origin(self, trigger: str) -> str:
        """Who launches the tasks of a trigger."""
        return f"trigger {self.id} {trigger}"


@dataclass(frozen=True, slots=True)
class Shown:
    """A trigger as a listing shows it. `fired` are the tasks that there are, the latest `task`."""

    group: Group
    trigger: Trigger
    active: bool
    automations: tuple[Automation, ...]
    fired: int = 0
    task: str | None = None


# -- finding ----------------------------------------------------------------------------------


def group_of(item: Mapping[str, Any]) -> Group:
    """A group from its deployment."""
    said = item.get("labels") or {}
    tag = next((t.partition(":")[2] for t in item["tags"] if t.startswith("project:")), "")
    return Group(
        id=str(item["id"]),
        name=str(said.get("clearflow.name") or item["name"]),
        project=str(said.get("clearflow.project") or tag),
        queue=str(item.get("work_queue_name") or QUEUE),
    )


async def groups(api: Api, name: str | None = None, project: str | None = None) -> list[Group]:
    """Those there are, by project and name."""
    found = [group_of(item) for item in await schedules.tagged(api, [TAG])]
    kept = [g for g in found if name in {None, g.name} and project in {None, g.project}]
    return sorted(kept, key=lambda each: (each.project, each.name))


async def of(api: Api, group: Group) -> list[Shown]:
    """The triggers of a group, by name."""
    found = await automations.tagged(api, [TAG, f"{IN}{group.id}"])
    named: dict[str, list[Automation]] = {}
    for each in sorted(found, key=lambda each: str(each.body.get("created"))):
        named.setdefault(record(each).name, []).append(each)
    return [
        Shown(group, record(some[0]), all(each.enabled for each in some), tuple(some))
        for _, some in sorted(named.items())
    ]


def record(automation: Automation) -> Trigger:
    """The trigger that an automation stands for."""
    kept = (automation.parameters.get("reaction") or {}).get("trigger") or {}
    return Trigger.model_validate_json(kept["value"])


async def listing(api: Api, name: str | None = None, project: str | None = None) -> list[Shown]:
    """All triggers of all groups, or of some, with what they have launched."""
    found: list[Shown] = []
    for each in await groups(api, name, project):
        found += await asyncio.gather(*(_counted(api, one) for one in await of(api, each)))
    return found


async def _counted(api: Api, one: Shown) -> Shown:
    where = {"tags": {"all_": [launches.origin_tag(one.group.origin(one.trigger.name))]}}
    number, last = await asyncio.gather(
        runs.count(api, where), anext(runs.find(api, where, limit=1), None)
    )
    task = last.task_id if last is not None else None
    return replace(one, fired=number, task=task)


async def one(
    api: Api, name: str, scheduler: str | None = None, project: str | None = None
) -> Shown:
    """A trigger by its name. Raises NotFound, and Usage when several groups have one."""
    found = [t for g in await groups(api, scheduler, project) for t in await of(api, g)]
    found = [each for each in found if each.trigger.name == name]
    if not found:
        raise NotFound(f"there is no trigger {name!r}", hint="`clearflow trigger ls` lists them")
    if len(found) > 1:
        where = ", ".join(f"{s.group.project!r} · {s.group.name!r}" for s in found)
        raise Usage(f"{name!r} is a trigger of {where}", hint="--scheduler and --project say which")
    return found[0]


# -- checking ---------------------------------------------------------------------------------


async def check(api: Api, wanted: Sequence[Trigger]) -> list[When]:
    """Raise what is wrong with triggers, in one line that names the trigger; nothing is made."""
    names = [each.name for each in wanted]
    for name in names:
        if names.count(name) > 1:
            raise Usage(f"two triggers have the name {name!r}", hint="each needs its own")
    found = []
    for each in wanted:
        try:
            when = each.when()
            await checking.check(api, each.order, triggers.known(each.kind))
            if each.project is not None:
                await _check_project(api, each.project)
        except (Usage, NotFound) as wrong:
            raise type(wrong)(f"trigger {each.name!r}: {wrong.message}", hint=wrong.hint) from None
        found.append(when)
    return found


async def _check_project(api: Api, project: str) -> None:
    """Raise NotFound for a project in which there is neither a task nor a dataset nor a model."""
    # It brings what stores need, which whoever launches tasks has no use for.
    from clearflow.registry import index

    where = {"tags": {"all_": [f"project:{project}"]}}
    if await anext(runs.find(api, where, limit=1), None) is not None:
        return
    known = {
        entry.project
        for kind in (entries.DATASET, entries.MODEL)
        for entry in await index.listed(api, kind)
    }
    if project not in known:
        async for item in deployments.find(api, "project:"):
            known |= {t.partition(":")[2] for t in item["tags"] if t.startswith("project:")}
    triggers.check_project(project, known)


# -- making -----------------------------------------------------------------------------------


async def put(
    api: Api,
    name: str,
    project: str,
    wanted: Sequence[Trigger],
    *,
    by: str,
    queue: str = QUEUE,
    exactly: bool = False,
) -> list[tuple[str, str]]:
    """Make it so: the group has these triggers; with `exactly` no others. What was done for each.

    A trigger of the same name is replaced. Raises Usage and NotFound before anything is made.
    """
    whens = await check(api, wanted)
    group = await _ensure(api, name, project, queue)
    before = {each.trigger.name: each for each in await of(api, group)}
    done: list[tuple[str, str]] = []
    for each, when in zip(wanted, whens, strict=True):
        old = before.get(each.name)
        if old is not None and old.trigger == each and old.active == each.active:
            done.append((each.name, "unchanged"))
            continue
        await _put(api, group, each, when, old.automations if old else (), by)
        done.append((each.name, "added" if old is None else "changed"))
    if exactly:
        for each_old in before.values():
            if each_old.trigger.name not in {t.name for t in wanted}:
                await remove(api, each_old)
                done.append((each_old.trigger.name, "removed"))
    return done


async def _ensure(api: Api, name: str, project: str, queue: str) -> Group:
    told, flow = Reaction(scheduler=name, project=project), stored(f"{_MARK}{project} · {name}")
    found, made = await homes.ensure(
        api, _HOME, told, flow=flow, name=name, project=project, queue=queue
    )
    group = group_of(found)
    if not made:
        return group
    often = {"interval": CATCHES_UP.total_seconds()}
    await schedules.add(
        api,
        group.id,
        [{"schedule": often, "slug": "catch up", "active": True, "parameters": {}}],
    )
    await variables.write(api, cursor_name(group.id), api.clock.now().isoformat())
    return group


def cursor_name(group: str) -> str:
    """The Variable that keeps until when somebody has looked for missed events."""
    return f"{CURSOR}{group.replace('-', '')}"


async def _put(
    api: Api, group: Group, each: Trigger, when: When, there: Sequence[Automation], by: str
) -> None:
    reaction = {
        "scheduler": group.name,
        "project": group.project,
        "group": group.id,
        "by": by,
        "trigger": automations.verbatim(json.dumps(each.dump())),
        "event": EVENT,
    }
    marks = [TAG, f"{IN}{group.id}", *tags(group.project)]
    wanted = ears(group, each, when)
    for number, ear in enumerate(wanted):
        await automations.put(
            api,
            there[number].id if number < len(there) else None,
            f"{group.project} · {group.name}: {each.name}",
            trigger=ear,
            action=automations.run_deployment(group.id, {"reaction": reaction}),
            tags=[*marks, triggers.METRICS] if when.metric is not None else marks,
            description=f"Launches {each.launch.what} when {when.words}.",
            enabled=each.active,
        )
    for needless in there[len(wanted) :]:
        await automations.remove(api, needless.id)


def ears(group: Group, each: Trigger, when: When) -> list[dict[str, Any]]:
    """What its automations listen to: more than fits may come through, never less.

    Events of ours and those of Prefect about states of runs look different: one for each.
    """
    names = triggers.expected(when)
    states = [name for name in names if name.startswith(FLOW_RUN)]
    ours = [name for name in names if name not in states]
    found = []
    if states:
        # Our own runs come to states as well, and must not wake themselves.
        related = [
            {"prefect.resource.role": "flow", "prefect.resource.name": apart}
            for apart in (f"!{_MARK}*", "!clearflow-*")
        ]
        # The server remembers the tags of a run for a while: those that it got since are not told.
        if when.project is not None:
            mark = exactly(f"prefect.tag.project:{when.project}")
            related.append({"prefect.resource.role": "tag", "prefect.resource.id": mark})
        found.append(automations.on_event(states, {"prefect.resource.id": f"{FLOW_RUN}*"}, related))
    if ours:
        match = {"prefect.resource.id": f"clearflow.{when.kind}.*"}
        if when.metric is not None:
            match["clearflow.trigger"] = triggers.metric_key(group.id, each.name)
        if when.project is not None:
            match["clearflow.project"] = exactly(when.project)
        match |= {f"{TAG_LABEL}{tag}": "*" for tag in when.all_tags}
        found.append(automations.on_event(ours, match))
    return found


# -- changing ---------------------------------------------------------------------------------


async def pause(api: Api, there: Shown, *, active: bool) -> None:
    """Switch a trigger off or on. What happens while it is off is not made up for."""
    for each in there.automations:
        await automations.enable(api, each.id, active)


async def remove(api: Api, there: Shown) -> None:
    """Remove a trigger; the tasks that it has launched stay."""
    for each in there.automations:
        await automations.remove(api, each.id)


async def remove_group(api: Api, group: Group) -> None:
    """Remove a group with all of its triggers; the tasks that they have launched stay."""
    for each in await of(api, group):
        await remove(api, each)
    await variables.delete(api, cursor_name(group.id))
    await deployments.delete(api, group.id)
