"""`clearflow model`: weights with what is known of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from clearflow.cli.output import Json, Yes, confirm, print_json, print_table, say, short
from clearflow.cli.service import asked, completes
from clearflow.errors import Refused, Usage

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Models: weights with what is known of them.",
)


def _title(row: dict[str, Any]) -> str:
    return f"{row['project']}/{row['name']}"


_complete = completes("model.query", _title)
_HELP = "Its id or the beginning of one, or PROJECT/NAME: the latest of that name."
Name = Annotated[str, typer.Argument(metavar="MODEL", help=_HELP, autocompletion=_complete)]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; repeatable.")]


def _one(name: str) -> dict[str, Any]:
    """The model that is named. Raises NotFound."""
    if re.fullmatch("[0-9a-f]{6,32}", name):
        return dict(asked("model.get", id=name))
    project, _, title = name.rpartition("/")
    return dict(asked("model.find", project=project or None, name=title, include_archived=True))


def _size(amount: float | None) -> str:
    if amount is None:
        return ""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _metrics(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in row["metrics"].items())


@app.command()
def ls(
    project: Annotated[str | None, typer.Option(help="Of this project.")] = None,
    name: Annotated[str | None, typer.Option(help="A pattern of the name.")] = None,
    tag: Tags = None,
    framework: Annotated[str | None, typer.Option(help="Of this framework.")] = None,
    task: Annotated[str | None, typer.Option(help="Made by the task of this id.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Only published ones.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    order: Annotated[
        str, typer.Option(help="created, changed, name, project, metrics.NAME; -: largest first.")
    ] = "-created",
    limit: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    json: Json = False,
) -> None:
    """The models, the latest first. Several tags have to be there all."""
    found = asked(
        "model.query",
        project=project,
        pattern=name,
        tags=["__$all", *tag] if tag else [],
        framework=framework,
        task=task,
        only_published=published,
        include_archived=archived,
        order=order,
        limit=limit,
    )
    if json:
        print_json(found)
        return
    rows = [
        [
            short(each["id"]),
            each["project"],
            each["name"],
            "archived" if each["archived"] else each["status"],
            ", ".join(each["tags"]),
            each["framework"],
            _size(each["size"]),
            _metrics(each),
            each["created"][:16].replace("T", " "),
        ]
        for each in found
    ]
    columns = ["ID", "PROJECT~", "NAME~", "STATUS", "TAGS~", "FRAMEWORK~", "SIZE", "METRICS~"]
    print_table([*columns, "CREATED"], rows, empty="no model fits")


@app.command()
def show(name: Name, json: Json = False) -> None:
    """What is known of a model, what it was made from and by, and what uses it."""
    row = _one(name)
    lineage = asked("model.lineage", id=row["id"])
    if json:
        print_json({**row, "lineage": lineage})
        return
    task = lineage["task"]
    uses = [f"{each['project']}/{each['name']} ({each['id']})" for each in lineage["used_by"]]
    facts = {
        "id": row["id"],
        "name": _title(row),
        "status": "archived" if row["archived"] else row["status"],
        "tags": ", ".join(row["tags"]),
        "framework": row["framework"],
        "comment": row["comment"],
        "weights": row["url"] or (f"{row['file']}, {_size(row['size'])}" if row["file"] else None),
        "metrics": _metrics(row),
        "made": f"{row['created'][:19].replace('T', ' ')} by {row['by']}",
        "task": task and f"{task['project']}/{task['name']} ({task['id']}), {task['status']}",
        "datasets": ", ".join(each["title"] for each in lineage["datasets"]),
        "from": lineage["base"] and _title(lineage["base"]),
        "used by": ", ".join(uses),
        **{f"metadata {key}": value for key, value in row["metadata"].items()},
    }
    print_table(["", "~"], [[key, value] for key, value in facts.items() if value])


@app.command()
def tag(
    name: Name,
    tags: Annotated[list[str], typer.Argument(help="Tags.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take them away.")] = False,
    json: Json = False,
) -> None:
    """Give a model tags, or take them away."""
    what = "untag" if remove else "tag"
    row = asked("model.change", id=_one(name)["id"], what=what, tags=tags)
    _say(row, f"tags {', '.join(row['tags']) or 'none'}:", json)


@app.command()
def publish(name: Name, json: Json = False) -> None:
    """Have its weights stay as they are."""
    _say(asked("model.change", id=_one(name)["id"], what="publish"), "published", json)


@app.command()
def archive(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    json: Json = False,
) -> None:
    """Put a model away: it is found only when that is asked for."""
    what = "unarchive" if undo else "archive"
    _say(asked("model.change", id=_one(name)["id"], what=what), f"{what}d", json)


def _say(row: dict[str, Any], done: str, json: bool) -> None:
    if json:
        print_json(row)
    else:
        say(f"{done} {_title(row)}, {row['id']}")


@app.command()
def upload(
    path: Annotated[Path, typer.Argument(help="A file, or a folder.")],
    name: Annotated[str, typer.Option(help="PROJECT/NAME.")],
    tag: Tags = None,
    framework: Annotated[str | None, typer.Option(help="Such as PyTorch.")] = None,
    comment: Annotated[str | None, typer.Option(help="For people.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="The id of a dataset it was trained on; repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Store a file or a folder as a model that no task has made; its id is printed."""
    from clearflow.client.models import OutputModel

    project, _, title = name.rpartition("/")
    if not (project and title):
        raise Usage(f"{name!r} is not PROJECT/NAME")
    model = OutputModel(
        name=title,
        project=project,
        tags=tag,
        framework=framework,
        comment=comment,
        datasets=dataset or [],
    )
    model.update_weights(path)
    if json:
        print_json(asked("model.get", id=model.id))
    else:
        say(f"stored {name}")
        print(model.id)


@app.command()
def get(
    name: Name,
    to: Annotated[Path | None, typer.Option(help="Where it shall be; here without it.")] = None,
) -> None:
    """Fetch the weights of a model; the path of them is printed."""
    from clearflow.client.model import Model

    row = _one(name)
    target = to or Path(row["file"] or row["name"]).name
    place = Path(target)
    if place.is_dir():
        place = place / Path(row["file"] or row["name"]).name
    if row["type"] == "archive" and to is None:
        place = place.with_suffix("")
    if place.exists():
        raise Refused(f"there is a {place} already", hint="--to names another place")
    copy = Path(str(Model(row["id"]).get_local_copy()))
    shutil.move(copy, place)
    shutil.rmtree(copy.parent, ignore_errors=True)
    print(place)


@app.command()
def rm(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Also if it is published.")] = False,
    yes: Yes = False,
) -> None:
    """Delete a model; its weights stay in the store, where others may have them too."""
    row = _one(name)
    confirm(f"Delete the model {_title(row)}?", yes)
    asked("model.delete", id=row["id"], force=force)
    say(f"deleted {_title(row)}, {row['id']}")


@app.command()
def reindex(json: Json = False) -> None:
    """Make all that Prefect shows of the models anew, from what is in the store."""
    count = asked("model.reindex")
    if json:
        print_json({"models": count})
    else:
        say(f"{count} models")
