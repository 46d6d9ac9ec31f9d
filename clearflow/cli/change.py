"""`clearflow task clone` and `set`: a task like another one, with other parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearflow.cli.output import Json, ask, print_json, say
from clearflow.errors import Usage

if TYPE_CHECKING:
    from clearflow._prefect.http import Api

Id = Annotated[str, typer.Argument(help="The id of a task, or its first characters.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        help="A parameter, such as General/lr=0.1 or Args/epochs=3; repeatable.",
    ),
]
Name = Annotated[str | None, typer.Option(help="Its new name.")]
Project = Annotated[str | None, typer.Option(help="Its new project.")]


def clone(
    task: Id,
    name: Name = None,
    project: Project = None,
    parameter: Parameters = None,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", help="Queue it there (default: a draft).")
    ] = None,
    json: Json = False,
) -> None:
    """Make a draft like a task: its code, environment and parameters, some of them changed."""

    async def act(api: Api) -> dict[str, Any]:
        service = _service(api)
        made = await service.answer("clone", {"task": task, "name": name, "project": project})
        if parameter:
            changes = {"task": made["id"], "parameters": _merged(made, parameter)}
            made = await service.answer("change", changes)
        if queue is not None:
            made = await service.answer("enqueue", {"task": made["id"], "queue": queue})
        return dict(made)

    _check(parameter)
    made = ask(act)
    say(f"made {made['name']!r}, {made['status']}")
    print_json(made) if json else print(made["id"])


def set_(
    task: Id,
    name: Name = None,
    project: Project = None,
    parameter: Parameters = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="These tags and no others; repeatable.")
    ] = None,
    comment: Annotated[str | None, typer.Option(help="Words about it.")] = None,
    json: Json = False,
) -> None:
    """Change a task: names, tags, words, and as long as it waits its parameters."""

    async def act(api: Api) -> dict[str, Any]:
        service = _service(api)
        seen = await service.answer("describe", {"task": task})
        changes: dict[str, Any] = {"task": seen["id"], "name": name, "project": project}
        changes["tags"] = tag
        if parameter:
            changes["parameters"] = _merged(seen, parameter)
        if comment is not None:
            changes["labels"] = {"clearflow.comment": comment}
        return dict(await service.answer("change", changes))

    if all(given is None for given in (name, project, parameter, tag, comment)):
        raise Usage("nothing to change", hint="such as --parameter General/lr=0.1")
    _check(parameter)
    seen = ask(act)
    say(f"changed {seen['name']!r}")
    if json:
        print_json(seen)


def _service(api: Api) -> Any:
    from clearflow.capture.owner import owner
    from clearflow.service.answers import Service

    return Service(api, owner())


def _check(given: list[str] | None) -> None:
    for pair in given or ():
        if "=" not in pair:
            raise Usage(f"{pair!r} is not NAME=VALUE", hint="such as General/lr=0.1")


def _merged(seen: dict[str, Any], given: list[str]) -> dict[str, Any]:
    """All parameters of a task, with those in them that were given as NAME=VALUE."""
    from clearflow.words import parameters

    pairs = (pair.partition("=") for pair in given)
    return parameters.merged(
        seen["parameters"], parameters.nested({k: parameters.read(v) for k, _, v in pairs})
    )
