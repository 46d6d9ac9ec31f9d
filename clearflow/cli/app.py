"""`clearflow app`: controllers that agents run on the services queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearflow.cli.output import Json, Yes, ask, confirm, print_json, print_table, say
from clearflow.errors import Usage

if TYPE_CHECKING:
    from clearflow._prefect.http import Api
    from clearflow.apps.running import Instance

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Applications: monitors, schedulers, cleaning up: what agents do for you.",
)


def _complete(incomplete: str) -> list[str]:
    """Names of what was launched, for the shell."""
    from clearflow._prefect import seam
    from clearflow.apps.running import instances
    from clearflow.errors import ClearflowError

    try:
        found = seam.run(instances)
    except ClearflowError:
        return []
    return [each.name for each in found if each.name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="The name it has.", autocompletion=_complete)]
Project = Annotated[
    str | None, typer.Option(help="Its project, where several have one of this name.")
]


@app.command()
def ls(json: Json = False) -> None:
    """What was launched, and how it is; and what there is to launch."""
    from clearflow.apps.catalog import APPS

    async def act(api: Api) -> list[dict[str, Any]]:
        from clearflow.apps.running import instances

        return [_row(api, each) for each in await instances(api)]

    found = ask(act)
    if json:
        print_json({"launched": found, "applications": [_about(each.name) for each in APPS]})
        return
    columns = ["NAME~", "APPLICATION", "PROJECT~", "QUEUE", "STATUS", "REASON~"]
    rows = [
        [r["name"], r["app"], r["project"], r["queue"], r["status"], r["reason"]] for r in found
    ]
    if rows:
        print_table(columns, rows)
        say("")
    say("to launch: " + ", ".join(each.name for each in APPS))


def _row(api: Api, each: Instance) -> dict[str, Any]:
    run = each.run
    return {
        "name": each.name,
        "app": each.app,
        "project": each.project,
        "queue": each.queue,
        "status": each.status(api.clock.now()),
        "reason": run.note.text if run else "",
        "task": run.task_id if run else None,
        "url": api.connection.run_url(run.id) if run else None,
        "settings": dict(each.parameters),
    }


def _about(name: str) -> dict[str, Any]:
    from clearflow.apps.catalog import named

    app = named(name)
    return {"name": app.name, "summary": app.summary, "settings": app.fields()}


@app.command()
def show(
    application: Annotated[str, typer.Argument(help="An application.", show_default=False)],
    json: Json = False,
) -> None:
    """The settings of an application."""
    about = _about(application)
    if json:
        print_json(about)
        return
    say(about["summary"])
    rows = [
        [name, "" if field.get("default") is None else field["default"], field["description"]]
        for name, field in about["settings"].items()
    ]
    print_table(["SETTING", "DEFAULT", "MEANING~"], rows)


@app.command()
def launch(
    application: Annotated[str, typer.Argument(help="An application.", show_default=False)],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="NAME=VALUE, the value as JSON or text; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name (default: the application's).")] = None,
    project: Annotated[str, typer.Option(help="The project that it is shown in.")] = "Applications",
    queue: Annotated[str, typer.Option("--queue", "-q", help="Whose agents run it.")] = "services",
    json: Json = False,
) -> None:
    """Launch an application; agents of the queue run it until it is stopped."""
    from clearflow.capture.owner import owner

    values = parsed(setting or [])

    async def act(api: Api) -> dict[str, Any]:
        from clearflow.apps import running

        found = await running.launch(
            api, application, values, name=name, project=project, queue=queue, by=owner()
        )
        return _row(api, found)

    done = ask(act)
    say(f"launched {done['name']!r}" + (f": {done['url']}" if done["url"] else ""))
    if json:
        print_json(done)


def parsed(pairs: list[str]) -> dict[str, Any]:
    """Settings from NAME=VALUE. Raises Usage."""
    from json import JSONDecodeError, loads

    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise Usage(f"{pair!r} is not NAME=VALUE", hint="such as channel=#training")
        try:
            values[key] = loads(text)
        except JSONDecodeError:
            values[key] = text
    return values


@app.command()
def stop(name: Name, project: Project = None) -> None:
    """Stop it; its settings stay."""
    from clearflow.capture.owner import owner

    async def act(api: Api) -> str:
        from clearflow.apps import running

        there = await running.instance(api, name, project)
        return await running.stop(api, there, by=owner())

    say(f"{name!r}: {ask(act)}")


@app.command()
def rm(name: Name, project: Project = None, yes: Yes = False) -> None:
    """Stop it, and forget its settings."""
    from clearflow.capture.owner import owner

    confirm(f"Remove the application {name!r}?", yes)

    async def act(api: Api) -> None:
        from clearflow.apps import running

        await running.remove(api, await running.instance(api, name, project), by=owner())

    ask(act)
    say(f"removed {name!r}")


@app.command()
def logs(
    name: Name,
    project: Project = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="So many lines.")] = None,
) -> None:
    """Its console."""

    async def act(api: Api) -> None:
        from clearflow.apps import running
        from clearflow.tasks import logs as reading

        there = await running.instance(api, name, project)
        if there.run is None:
            return
        lines = reading.follow if follow else reading.read
        async for line in lines(api, there.run, last):
            print(line.message, flush=True)

    ask(act)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="A YAML file: a list of applications.")],
    json: Json = False,
) -> None:
    """Make it so: launch what a file lists, with its settings; change what runs with others."""
    import yaml

    from clearflow.capture.owner import owner

    try:
        wanted = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Usage(f"{file}: {' '.join(str(error).split())}") from None
    if not isinstance(wanted, list) or not all(isinstance(each, dict) for each in wanted):
        raise Usage(f"{file} is no list of applications", hint="- app: slack-monitor")

    async def act(api: Api) -> list[tuple[str, str]]:
        from clearflow.apps import running

        return await running.apply(api, wanted, by=owner())

    done = ask(act)
    if json:
        print_json([{"name": name, "done": what} for name, what in done])
        return
    print_table(["NAME~", "DONE"], done, empty="the file lists nothing")
