"""`clearflow dataset`: versions of files that every machine gets fast."""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Any

import typer

from clearflow.cli.output import Json, Yes, confirm, print_json, print_table, say
from clearflow.errors import ClearflowError, Usage

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Datasets: versions of files that every machine gets fast.",
)


def _complete(incomplete: str) -> list[str]:
    """Names of datasets, for the shell."""
    try:
        found = _asked("dataset.list")
    except ClearflowError:
        return []
    return [name for each in found if (name := _title(each)).startswith(incomplete)]


_HELP = "Its id or the beginning of one, PROJECT/NAME, or PROJECT/NAME:VERSION."
Name = Annotated[str, typer.Argument(metavar="DATASET", help=_HELP, autocompletion=_complete)]
_COLUMNS = ("path", "size", "hash", "link")
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; repeatable.")]
Folder = Annotated[str, typer.Option("--to", help="The folder in the dataset.")]


def _asked(verb: str, doing: str = "", **arguments: Any) -> Any:
    """The answer; with `doing` there is a bar. Ctrl-C ends the command without a trace."""
    from clearflow.client import door
    from clearflow.client.watching import watched

    try:
        if not doing:
            return door.ask(verb, **arguments)
        return watched(doing, verb, **arguments)
    except KeyboardInterrupt:
        say("interrupted: the same command goes on where it stopped")
        sys.exit(130)


def _one(name: str, **more: Any) -> dict[str, Any]:
    """The dataset that is named. Raises NotFound."""
    if re.fullmatch("[0-9a-f]{6,32}", name):
        return dict(_asked("dataset.get", id=name))
    path, _, version = name.partition(":")
    project, _, title = path.rpartition("/")
    where: dict[str, Any] = {"project": project or None, "name": title}
    where["version"] = version or None
    return dict(_asked("dataset.get", **where, **more))


def _draft(name: str) -> str:
    return str(_one(name, draft=True)["id"])


def _title(row: dict[str, Any]) -> str:
    return f"{row['project']}/{row['name']}:{row['version']}"


def _say(row: dict[str, Any], done: str, json: bool) -> None:
    if json:
        print_json(row)
    else:
        say(f"{done} {_title(row)}, {row['id']}")


def size(amount: float | None) -> str:
    """Bytes in their largest sensible unit."""
    if amount is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


# -- making ----------------------------------------------------------------------------------------


@app.command()
def create(
    name: Annotated[
        str | None, typer.Argument(help="PROJECT/NAME; a parent's without one.")
    ] = None,
    parent: Annotated[
        list[str] | None, typer.Option(help="What it is a new version of; repeatable.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Instead of the next one.")] = None,
    tag: Tags = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    json: Json = False,
) -> None:
    """Make a new version, which is a draft; its id is printed."""
    project, _, title = (name or "").rpartition("/")
    if not parent and not (project and title):
        raise Usage("a dataset needs a project and a name", hint="PROJECT/NAME")
    parents = [_one(each, only_completed=True)["id"] for each in parent or []]
    asked: dict[str, Any] = {"version": version, "tags": tag or [], "description": description}
    row = _asked("dataset.create", name=title, project=project, parents=parents, **asked)
    if json:
        print_json(row)
    else:
        say(f"created {_title(row)}")
        print(row["id"])


@app.command()
def add(
    name: Name,
    paths: Annotated[list[str], typer.Argument(help="Files and folders, or addresses.")],
    to: Folder = "",
    wildcard: Annotated[
        list[str] | None, typer.Option(help="Only files like this; repeatable.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Paths are relative to this folder.")] = None,
    flat: Annotated[bool, typer.Option("--flat", help="Without folders in folders.")] = False,
) -> None:
    """Take files, folders with what is in them, or addresses of files that stay where they are."""
    id = _draft(name)
    asked: dict[str, Any] = {"wildcards": wildcard or [], "folder": to, "recursive": not flat}
    urls = [each for each in paths if "://" in each]
    here = [os.path.abspath(each) for each in paths if "://" not in each]
    count = 0
    if here:
        where = base and os.path.abspath(base)
        count += _asked("dataset.add", id=id, paths=here, base=where, **asked)
    if urls:
        count += _asked("dataset.link", id=id, urls=urls, **asked)
    say(f"took {count} files; `clearflow dataset upload {name}` sends them")


@app.command()
def remove(
    name: Name,
    paths: Annotated[list[str], typer.Argument(help="Files, folders, wildcards in the dataset.")],
) -> None:
    """Take files away from a draft."""
    id = _draft(name)
    count = sum(_asked("dataset.remove", id=id, path=each) for each in paths)
    say(f"took away {count} files")


@app.command()
def sync(
    name: Name,
    folder: Annotated[str, typer.Argument(help="A folder here.")],
    to: Folder = "",
    json: Json = False,
) -> None:
    """Have a draft be what a folder is: what is new, changed, or gone there."""
    asked = {"folder": os.path.abspath(folder), "inner": to}
    done = _asked("dataset.sync", "compared", id=_draft(name), **asked)
    if json:
        print_json(done)
    else:
        counts = [f"{len(done[each])} {each}" for each in ("added", "modified", "removed")]
        say(", ".join(counts))


@app.command()
def upload(name: Name, json: Json = False) -> None:
    """Send what a draft has taken. When it was interrupted, it goes on where it stopped."""
    done = _asked("dataset.upload", "sent", id=_draft(name))
    if json:
        print_json(done)
    else:
        say(f"{done['files']} files, {size(done['bytes'])}; {size(done['sent'])} were sent")


@app.command()
def finalize(
    name: Name,
    upload: Annotated[bool, typer.Option("--upload", help="Upload first.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Publish it too.")] = False,
    json: Json = False,
) -> None:
    """A draft is what it is from now on, and can be used."""
    row = _asked("dataset.finalize", "sent", id=_draft(name), auto_upload=upload)
    if publish:
        row = _asked("dataset.change", id=row["id"], publish=True)
    _say(row, "published" if publish else "finalized", json)


@app.command()
def publish(name: Name, json: Json = False) -> None:
    """It is meant for others, and is not deleted by mistake."""
    row = _asked("dataset.change", id=_one(name, only_completed=True)["id"], publish=True)
    _say(row, "published", json)


@app.command()
def squash(
    name: Annotated[str, typer.Argument(help="PROJECT/NAME of the new version.")],
    sources: Annotated[list[str], typer.Argument(help="Datasets; a later one goes before.")],
    version: Annotated[str | None, typer.Option(help="Instead of the next one.")] = None,
    tag: Tags = None,
    json: Json = False,
) -> None:
    """Make one version of what several have; nothing is sent."""
    project, _, title = name.rpartition("/")
    ids = [_one(each, only_completed=True)["id"] for each in sources]
    asked: dict[str, Any] = {"version": version, "tags": tag or []}
    _say(_asked("dataset.squash", name=title, project=project, ids=ids, **asked), "made", json)


# -- using -----------------------------------------------------------------------------------------


@app.command()
def get(
    name: Name,
    target: Annotated[
        str | None, typer.Option("--to", help="A folder of your own, to change it there.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="A file, folder or wildcard; repeatable.")
    ] = None,
    part: Annotated[int | None, typer.Option(help="Which share, from 0 on.")] = None,
    parts: Annotated[int | None, typer.Option(help="Of how many.")] = None,
) -> None:
    """Fetch a dataset, and print where it is: read-only and shared, or in a folder of your own."""
    id = _one(name)["id"]
    share = {"part": part, "parts": parts}
    if target is None:
        if overwrite:
            raise Usage("--overwrite what?", hint="--to names a folder of your own")
        print(_asked("dataset.local", "fetched", id=id, only=only, **share))
        return
    if only:
        raise Usage("--only goes without --to")
    asked = {"target": os.path.abspath(target), "overwrite": overwrite}
    print(_asked("dataset.mutable", "fetched", id=id, **asked, **share))


@app.command()
def ls(
    project: Annotated[str | None, typer.Option(help="In this project, and those in it.")] = None,
    name: Annotated[str | None, typer.Option(help="A part of the name.")] = None,
    tag: Tags = None,
    published: Annotated[bool, typer.Option("--published", help="Only these.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="These too.")] = False,
    json: Json = False,
) -> None:
    """Datasets, the newest first."""
    found = _asked(
        "dataset.list",
        below=project,
        pattern=name,
        tags=tag or [],
        only_published=published,
        include_archived=archived,
    )
    if json:
        print_json(found)
        return
    columns = ["ID", "DATASET~", "VERSION", "STATUS", "TAGS~", "FILES", "SIZE", "BY~", "CREATED"]
    rows = [
        [
            r["id"][:8],
            f"{r['project']}/{r['name']}",
            r["version"],
            "archived" if r["archived"] else r["status"],
            ", ".join(r["tags"]),
            r["files"],
            size(r["size"]),
            r["by"],
            r["created"][:16].replace("T", " "),
        ]
        for r in found
    ]
    print_table(columns, rows, empty="no datasets: `clearflow dataset create PROJECT/NAME`")


@app.command()
def show(
    name: Name,
    files: Annotated[bool, typer.Option("--files", help="All of its files too.")] = False,
    json: Json = False,
) -> None:
    """What there is to say about a dataset, what it changes, and what it comes from."""
    row = _one(name)
    changes = _asked("dataset.changes", id=row["id"])
    graph = _asked("dataset.graph", id=row["id"])
    listing = _asked("dataset.files", id=row["id"]) if files else []
    if json:
        more = {"changes": changes, "graph": graph}
        if files:
            more["list"] = [dict(zip(_COLUMNS, f, strict=True)) for f in listing]
        print_json(row | more)
        return
    counts = {each: len(changes[each]) for each in ("added", "modified", "removed")}
    said = {
        "id": row["id"],
        "dataset": _title(row),
        "status": "archived" if row["archived"] else row["status"],
        "tags": ", ".join(row["tags"]),
        "files": row["files"],
        "size": size(row["size"]),
        "hash": row["hash"],
        **counts,
        "parents": ", ".join(row["parents"]),
        "made": f"{row['created'][:19].replace('T', ' ')} by {row['by']}",
        "task": row["task"],
        "kept by": row["host"],
        "metadata": ", ".join(row["metadata"]),
        "about": row["description"],
    }
    print_table(["WHAT", "IS~"], [[key, value] for key, value in said.items() if value])
    if files:
        print_table(["FILE~", "SIZE", "LINK~"], [[p, size(s), link] for p, s, _, link in listing])


@app.command()
def tag(
    name: Name,
    tags: Annotated[list[str] | None, typer.Argument(help="Tags that it gets.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag that it loses.")] = None,
    json: Json = False,
) -> None:
    """Give a dataset tags, or take them away."""
    if not tags and not remove:
        raise Usage("which tags?")
    id = _one(name)["id"]
    row = _asked("dataset.change", id=id, tags=tags or [], untag=remove or [])
    if json:
        print_json(row)
    else:
        say(f"{_title(row)} has the tags: {', '.join(row['tags']) or 'none'}")


@app.command()
def verify(
    name: Name,
    folder: Annotated[str | None, typer.Option(help="A copy here, instead of the store.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="The store, from --folder or the copy here.")
    ] = False,
    json: Json = False,
) -> None:
    """Check every file by its hash; exits with 1 when something is wrong, and is not repaired."""
    asked = {"folder": folder and os.path.abspath(folder), "repair": repair}
    wrong = _asked("dataset.verify", "checked", id=_one(name)["id"], **asked)
    if json:
        print_json(wrong)
    elif wrong:
        print_table(["FILE~", "IS"], list(wrong.items()))
    else:
        say("every file is what it was")
    if wrong:
        raise typer.Exit(1)


@app.command()
def rm(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Though others stand on it, or it is published.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete a version, and what only it has."""
    row = _one(name)
    confirm(f"Delete the dataset {_title(row)}?", yes)
    _asked("dataset.delete", id=row["id"], force=force)
    say(f"deleted {_title(row)}")


@app.command()
def reindex() -> None:
    """Make anew what Prefect shows of the datasets in the store."""
    say(f"{_asked('dataset.reindex')} datasets are in the index")
