"""Applications as they run: deployments with the settings that somebody gave them; their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from clearflow._prefect import deployments, pools, runs
from clearflow._prefect.http import Api
from clearflow.apps import groups
from clearflow.apps.catalog import App, named
from clearflow.apps.groups import Group
from clearflow.errors import NotFound, Refused, Usage
from clearflow.settings import settings
from clearflow.tasks import abort as aborting
from clearflow.tasks import wait as waiting
from clearflow.words import lifecycle
from clearflow.words.models import SCHEDULED, Run
from clearflow.words.names import DEPLOYMENT, flow_name, labels, shown, stored, tags
from clearflow.words.notes import Note

PROJECT, QUEUE = "Applications", "services"
ON, OFF = "on", "off"
_TAG = "clearflow:app:"
_ATTEMPTS = 1000
"""What runs for months outlives many machines."""


@dataclass(frozen=True)
class Instance:
    """An application that somebody has launched under a name; `run` is its last run.

    A `group` need not run to be active: it is on or off.
    """

    app: str
    name: str
    project: str
    queue: str
    deployment: str
    parameters: Mapping[str, Any]
    run: Run | None
    group: Group | None = None

    @property
    def active(self) -> bool:
        """Whether it runs, or waits to."""
        if self.group is not None:
            return self.group.active
        return self.run is not None and self.run.state is not None and not self.run.state.final

    def status(self, now: datetime) -> str:
        """In a word."""
        if self.group is not None:
            return ON if self.group.active else OFF
        return self.run.status(now) if self.run is not None else "never run"


async def instances(api: Api, app: str | None = None) -> list[Instance]:
    """The applications that somebody has launched, by project and name."""
    found = []
    async for item in deployments.find(api, _TAG):
        kind = _tagged(item["tags"], _TAG)
        if app is None or kind == app:
            found.append(await _instance(api, kind, item))
    if app in {None, groups.SCHEDULER, groups.TRIGGERS}:
        made = await groups.groups(api)
        found += [await _grouped(api, each) for each in made if app in {None, each.app}]
    return sorted(found, key=lambda each: (each.project, each.name))


async def _instance(api: Api, kind: str, item: Mapping[str, Any]) -> Instance:
    said = item.get("labels") or {}
    return Instance(
        kind,
        str(said.get("clearflow.name") or item["name"]),
        str(said.get("clearflow.project") or _tagged(item["tags"], "project:")),
        shown(item.get("work_queue_name") or ""),
        str(item["id"]),
        (item.get("parameters") or {}).get("settings") or {},
        await _last(api, str(item["id"])),
    )


async def _grouped(api: Api, group: Group) -> Instance:
    where = (group.app, group.name, group.project, group.queue, group.deployment)
    # What Prefect has made for later is no run yet.
    run = await _last(api, group.deployment, {"state": {"type": {"not_any_": [SCHEDULED]}}})
    return Instance(*where, group.said, run, group)


async def _last(api: Api, deployment: str, more: Mapping[str, Any] | None = None) -> Run | None:
    where = {"deployment_id": {"any_": [deployment]}, **(more or {})}
    return await anext(runs.find(api, where, limit=1), None)


def _tagged(found: Sequence[str], prefix: str) -> str:
    """What a tag says; deployments of a `prefect.yaml` have tags only."""
    return next((t.removeprefix(prefix) for t in found if t.startswith(prefix)), "")


async def instance(api: Api, name: str, project: str | None = None) -> Instance:
    """One by its name. Raises NotFound, and Usage when several projects have one."""
    found = [
        each
        for each in await instances(api)
        if each.name == name and project in {None, each.project}
    ]
    if not found:
        raise NotFound(f"no application {name!r} has been launched", hint="`clearflow app ls`")
    if len(found) > 1:
        projects = ", ".join(repr(each.project) for each in found)
        raise Usage(f"{name!r} is launched in {projects}", hint="--project says which")
    return found[0]


async def launch(
    api: Api,
    app: str,
    values: Mapping[str, Any],
    *,
    name: str | None = None,
    project: str = PROJECT,
    queue: str = QUEUE,
    by: str,
) -> Instance:
    """Start an application with these settings; what it is started from again stays.

    Raises Usage for settings that do not fit and what the application's own check finds, NotFound
    for a queue that is not there, Refused when one of this name runs already.
    """
    kind = named(app)
    chosen = kind.settings(values)
    await kind.check(chosen)
    title = name or kind.name
    known = [i for i in await instances(api, kind.name) if (i.name, i.project) == (title, project)]
    if any(each.active for each in known):
        raise Refused(
            f"the application {title!r} runs already", hint=f"`clearflow app stop {title!r}` first"
        )
    if kind.group:
        await pools.queue(api, settings().pool, queue)
        await groups.put(api, chosen, name=title, project=project, queue=queue, by=by)
        return await instance(api, title, project)
    values = chosen.model_dump(mode="json")
    there = await _instance(api, kind.name, await deploy(api, kind, values, title, project, queue))
    return replace(there, run=await start(api, there, by=by))


async def deploy(
    api: Api, app: App, values: Mapping[str, Any], name: str, project: str, queue: str
) -> dict[str, Any]:
    """The deployment of an application under this name, made or brought up to date."""
    pool = settings().pool
    await pools.queue(api, pool, queue)
    parameters: dict[str, Any] = {"settings": dict(values)}
    schema = app.schema()
    if "name" in schema["properties"]:
        parameters["name"] = name
    return await deployments.ensure(
        api,
        flow=flow_name(project, name),
        name=DEPLOYMENT,
        pool=pool,
        queue=stored(queue),
        entrypoint=app.entrypoint,
        parameters=parameters,
        parameters_schema=schema,
        tags=[f"{_TAG}{app.name}", *tags(project)],
        labels=labels(name, project),
        description=app.summary,
        job_variables={"gpus": 0, **({"max_attempts": _ATTEMPTS} if app.lasting else {})},
    )


async def start(api: Api, there: Instance, *, by: str) -> Run:
    """Queue it once more, with the settings that it has."""
    return await runs.create(
        api,
        await deployments.read(api, there.deployment),
        write=lifecycle.queued(Note(f"launched by {by}", by=by)),
        name=there.name,
        queue=stored(there.queue),
        tags=tags(there.project, by),
        labels=labels(there.name, there.project),
    )


async def stop(api: Api, there: Instance, *, by: str) -> str:
    """Abort what runs of it, and wait until it has ended; how it has. A group is switched off.

    Raises Refused when nothing runs.
    """
    if not there.active:
        raise Refused(f"the application {there.name!r} does not run")
    if there.group is not None:
        await groups.pause(api, there.group)
        return OFF
    assert there.run is not None
    (aborted,) = await aborting.abort(api, [there.run], by=by)
    (ended,) = await waiting.wait(api, [aborted])
    return ended.status(api.clock.now())


async def remove(api: Api, there: Instance, *, by: str) -> None:
    """Stop it, and forget its settings."""
    if there.group is not None:
        await groups.remove(api, there.group)
        return
    if there.active:
        await stop(api, there, by=by)
    await deployments.delete(api, there.deployment)


async def apply(api: Api, wanted: Sequence[Mapping[str, Any]], *, by: str) -> list[tuple[str, str]]:
    """Make it so: each runs with these settings. Names, and what was done for each.

    Every item has `app`, and may have `name`, `project`, `queue` and `settings`. What runs with
    other settings is started anew. Raises Usage before anything is done.
    """
    planned = []
    for item in wanted:
        unknown = set(item) - {"app", "name", "project", "queue", "settings"}
        if unknown or "app" not in item:
            words = f"does not know {', '.join(sorted(unknown))}" if unknown else "names no app"
            raise Usage(f"an item {words}", hint="app, name, project, queue and settings")
        kind = named(str(item["app"]))
        chosen = kind.settings(item.get("settings") or {})
        await kind.check(chosen)
        planned.append((kind, chosen, item))
    done = []
    for kind, chosen, item in planned:
        name, project = str(item.get("name") or kind.name), str(item.get("project") or PROJECT)
        before = {(i.name, i.project): i for i in await instances(api, kind.name)}
        old = before.get((name, project))
        queue = str(item.get("queue") or QUEUE)
        if kind.group:
            where = {"name": name, "project": project, "queue": queue}
            news = await groups.put(api, chosen, **where, by=by)
            done.append((name, "launched" if old is None else "changed" if news else "unchanged"))
            continue
        values = chosen.model_dump(mode="json")
        same = old is not None and (old.parameters, old.queue) == (values, queue)
        if old is not None and old.active and same:
            done.append((name, "unchanged"))
            continue
        if old is not None and old.active:
            await stop(api, old, by=by)
        made = await deploy(api, kind, values, name, project, queue)
        if kind.lasting:
            await start(api, await _instance(api, kind.name, made), by=by)
        done.append((name, "changed" if old is not None else "launched"))
    return done
