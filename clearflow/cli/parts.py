"""What schedules and triggers share on the command line: they are parts of groups, in files too."""

# Without postponed annotations: those of the commands below are made where they are registered.

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from clearflow.cli.output import Json, Yes, confirm, print_json, print_table, say
from clearflow.cli.service import asked, completes
from clearflow.errors import Usage

KEYS = ("scheduler", "project", "queue")


def complete(noun: str) -> Callable[[str], list[str]]:
    """Names of parts, for the shell."""
    return completes(f"{noun}.list", lambda each: str(each["name"]))


def register(app: typer.Typer, noun: str, argument: str, group: str, meanwhile: str) -> None:
    """Add `pause`, `resume`, `rm` and `apply` to the commands of a noun.

    `argument` is the part in the verbs of the service, `meanwhile` what a paused one misses.
    """
    names = complete(noun)
    Name = Annotated[str, typer.Argument(help=f"A {noun} by its name.", autocompletion=names)]
    Scheduler = Annotated[str | None, typer.Option(help=f"The {group} that it belongs to.")]
    Project = Annotated[str | None, typer.Option(help=f"The project of that {group}.")]

    def switch(name: str, scheduler: str | None, project: str | None, active: bool) -> None:
        where = {argument: name, "scheduler": scheduler, "project": project}
        asked(f"{noun}.active", active=active, **where)
        say(f"{'resumed' if active else 'paused'} {name!r}")

    @app.command(help=f"Switch a {noun} off; what {meanwhile} meanwhile is not made up for.")
    def pause(name: Name, scheduler: Scheduler = None, project: Project = None) -> None:
        switch(name, scheduler, project, False)

    @app.command(help=f"Switch a {noun} on again.")
    def resume(name: Name, scheduler: Scheduler = None, project: Project = None) -> None:
        switch(name, scheduler, project, True)

    @app.command(help=f"Remove a {noun}; tasks that it has launched stay.")
    def rm(
        name: Name, scheduler: Scheduler = None, project: Project = None, yes: Yes = False
    ) -> None:
        confirm(f"Remove the {noun} {name!r}?", yes)
        asked(f"{noun}.remove", **{argument: name}, scheduler=scheduler, project=project)
        say(f"removed {name!r}")

    @app.command(
        help=f"Make it so: each {group} has the {noun}s that the file lists, and no others."
    )
    def apply(
        file: Annotated[Path, typer.Argument(help=f"A YAML file: {group}s with their {noun}s.")],
        json: Json = False,
    ) -> None:
        rows = _applied(file, noun, f"{argument}s")
        if json:
            print_json(rows)
            return
        table = [[r["scheduler"], r["name"], r["done"]] for r in rows]
        print_table([f"{group.upper()}~", "NAME~", "DONE"], table, empty="the file lists nothing")


def _applied(file: Path, noun: str, argument: str) -> list[dict[str, Any]]:
    """Make so what a file lists; what was done for each.

    Raises Usage and NotFound before anything is made.
    """
    import yaml

    many, keys = f"{noun}s", (*KEYS, f"{noun}s")
    try:
        said = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Usage(f"{file}: {' '.join(str(error).split())}") from None
    wanted = said if isinstance(said, list) else [said]
    for each in wanted:
        if not isinstance(each, dict) or not isinstance(each.get(many), list):
            raise Usage(f"{file} lists no {many}", hint=f"{many}: [{{name: …}}]")
        if unknown := set(each) - set(keys):
            raise Usage(f"{file}: nobody knows {', '.join(sorted(unknown))}", hint=", ".join(keys))
    for each in wanted:
        asked(f"{noun}.check", **{argument: each[many]})
    rows = []
    for each in wanted:
        where = {k: v for k, v in each.items() if k != many}
        done = asked(f"{noun}.put", **{argument: each[many]}, exactly=True, **where)
        name = each.get("scheduler", "scheduler" if noun == "schedule" else many)
        rows += [{"scheduler": name, **one} for one in done]
    return rows
