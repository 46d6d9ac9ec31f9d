"""`clearflow trigger`: tasks that are launched when something happens."""

from __future__ import annotations

from typing import Annotated

import typer

from clearflow.cli import parts
from clearflow.cli.output import Json, print_json, print_table, say
from clearflow.cli.service import asked
from clearflow.errors import Usage

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Triggers: tasks launched when something happens.",
)

_complete = parts.complete("trigger")
Name = Annotated[str, typer.Argument(help="A trigger by its name.", autocompletion=_complete)]
Scheduler = Annotated[str | None, typer.Option(help="The group that it belongs to.")]
Project = Annotated[str | None, typer.Option(help="The project of that group.")]


@app.command()
def ls(scheduler: Scheduler = None, project: Project = None, json: Json = False) -> None:
    """What launches tasks by itself, and what it has launched."""
    found = asked("trigger.list", scheduler=scheduler, project=project)
    if json:
        print_json(found)
        return
    print_table(
        ["NAME~", "PROJECT~", "GROUP~", "WHEN~", "RUNS~", "LAUNCHED", ""],
        [
            [
                r["name"],
                r["project"],
                r["scheduler"],
                r["when"],
                r["what"],
                r["launched"],
                "" if r["active"] else "paused",
            ]
            for r in found
        ],
        empty="nothing triggers anything: `clearflow trigger add`",
    )


@app.command()
def show(
    name: Name, scheduler: Scheduler = None, project: Project = None, json: Json = False
) -> None:
    """One trigger: what it waits for, what it launches, and what it has launched last."""
    found = asked("trigger.list", scheduler=scheduler, project=project)
    rows = [each for each in found if each["name"] == name]
    if len(rows) != 1:
        from clearflow.errors import NotFound

        if not rows:
            raise NotFound(f"there is no trigger {name!r}", hint="`clearflow trigger ls`")
        raise Usage(f"{len(rows)} groups have a trigger {name!r}", hint="--scheduler, --project")
    (row,) = rows
    if json:
        print_json(row)
        return
    launch = row["trigger"].pop("launch")
    pairs = [(k, v) for k, v in row.items() if k not in {"name", "trigger"} and v is not None]
    pairs += [(f"waits for {k}", v) for k, v in row["trigger"].items() if k != "name"]
    pairs += [(f"launches {k}", v) for k, v in launch.items()]
    print_table([name, ""], [[key, str(value)] for key, value in pairs])


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help="dataset, model or task.")],
    name: Annotated[str, typer.Argument(help="Its name: launched tasks have it as a tag.")],
    task: Annotated[str | None, typer.Option(help="The task to launch, by its id.")] = None,
    latest: Annotated[
        list[str] | None,
        typer.Option(help="Or the latest that fits: project=…, name=…, tags=…; repeatable."),
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Or a deployment: its id, or flow/name.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Of the task.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="NAME=VALUE, such as Args/data='${dataset.id}'."),
    ] = None,
    on_project: Annotated[str | None, typer.Option(help="Where it has to happen.")] = None,
    on_name: Annotated[str | None, typer.Option(help="A regular expression of the name.")] = None,
    on_tag: Annotated[list[str] | None, typer.Option(help="All of these; repeatable.")] = None,
    on_any_tag: Annotated[list[str] | None, typer.Option(help="One of these.")] = None,
    required_tag: Annotated[list[str] | None, typer.Option(help="All of these too.")] = None,
    on_publish: Annotated[bool, typer.Option("--on-publish", help="When published.")] = False,
    on_archive: Annotated[bool, typer.Option("--on-archive", help="When archived.")] = False,
    on_status: Annotated[list[str] | None, typer.Option(help="Of a task; repeatable.")] = None,
    on_metric: Annotated[
        str | None, typer.Option(help="A scalar, as title or title/series.")
    ] = None,
    below: Annotated[float | None, typer.Option(help="When the metric comes to this.")] = None,
    above: Annotated[float | None, typer.Option(help="When the metric comes to this.")] = None,
    single: Annotated[bool, typer.Option("--single", help="Not while one has not ended.")] = False,
    target_project: Annotated[str | None, typer.Option(help="Of the launched task.")] = None,
    scheduler: Annotated[str, typer.Option(help="The group that it belongs to.")] = "triggers",
    project: Annotated[str, typer.Option(help="The project of that group.")] = "Triggers",
    json: Json = False,
) -> None:
    """Launch a task when something happens; a trigger of the same name is replaced."""
    from clearflow.cli.app import parsed
    from clearflow.cli.schedule import choice

    if below is not None and above is not None:
        raise Usage("--below or --above")
    title, _, series = (on_metric or "").partition("/")
    launch = {
        "task": task,
        "choice": choice(latest or []),
        "deployment": flow,
        "queue": queue,
        "parameters": parsed(parameter or []),
        "target_project": target_project,
        "single_instance": single,
    }
    trigger = {
        "kind": kind,
        "name": name,
        "project": on_project,
        "pattern": on_name,
        "tags": on_tag,
        "any_tags": on_any_tag,
        "required_tags": required_tag,
        "on_publish": on_publish or None,
        "on_archive": on_archive or None,
        "statuses": on_status,
        "metric": title or None,
        "variant": series or None,
        "threshold": below if below is not None else above,
        "sign": None if above is None else "max",
        "launch": {k: v for k, v in launch.items() if v not in (None, {}, False)},
    }
    said = {key: value for key, value in trigger.items() if value is not None}
    where = {"scheduler": scheduler, "project": project}
    (done,) = asked("trigger.put", triggers=[said], **where)
    (row,) = [each for each in asked("trigger.list", **where) if each["name"] == name]
    if json:
        print_json(row)
    else:
        say(f"{done['done']} {name!r}: launches {row['what']} when {row['when']}")


parts.register(app, "trigger", "trigger", "group", "happens")
