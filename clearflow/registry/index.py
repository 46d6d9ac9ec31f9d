"""What Prefect has of the registry: a card for each entry, and the version numbers that are taken.

Both are made from the truth in the store, and can be made again at any time.
"""

from __future__ import annotations

from datetime import timedelta

from clearflow import clock
from clearflow._prefect import cards, variables
from clearflow._prefect.http import Api
from clearflow.errors import Conflict
from clearflow.words.entries import Entry
from clearflow.words.names import slug

_UNUSED = timedelta(hours=1)
"""For so long a number that is taken may wait for its entry."""


def place(project: str, name: str) -> str:
    """The folder, and the part of a key, that stand for a name in a project."""
    return slug(f"{project}/{name}")


# -- numbers ---------------------------------------------------------------------------------------


async def take(api: Api, kind: str, project: str, name: str, version: str, id: str) -> bool:
    """Take a version number for an entry; False when somebody has it."""
    value = {"id": id, "version": version, "at": api.clock.now().isoformat()}
    body = {"name": _number(kind, project, name, version), "value": value, "tags": ["clearflow"]}
    try:
        await api.post("/variables/", body)
    except Conflict:
        return False
    return True


async def taken(api: Api, kind: str, project: str, name: str) -> list[str]:
    """The version numbers that are taken."""
    found = await variables.starting_with(api, _numbers(kind, project, name))
    return [str(value["version"]) for value in found.values()]


async def give_back(api: Api, entry: Entry) -> None:
    if entry.version:
        name = _number(entry.kind, entry.project, entry.name, entry.version)
        await variables.delete(api, name)


async def give_back_unused(api: Api, kind: str, used: set[str]) -> int:
    """Give back the numbers of entries that never came to be; how many."""
    found = await variables.starting_with(api, f"clearflow_{kind}_")
    unused = [
        name
        for name, value in found.items()
        if value["id"] not in used and api.clock.now() - clock.parse(value["at"]) > _UNUSED
    ]
    for name in unused:
        await variables.delete(api, name)
    return len(unused)


def _numbers(kind: str, project: str, name: str) -> str:
    return f"clearflow_{kind}_{place(project, name)}_"


def _number(kind: str, project: str, name: str, version: str) -> str:
    return _numbers(kind, project, name) + slug(version)


# -- cards -----------------------------------------------------------------------------------------


async def show(api: Api, entry: Entry, *, new: bool = False) -> None:
    """Have the card of an entry say what it is now; a `new` one has no card."""
    title = f"The {entry.kind} {entry.title}"
    card = cards.Card(_key(entry), entry.id, entry.seen(), _text(api, entry), title)
    await cards.put(api, card, new=new)


async def hide(api: Api, entry: Entry) -> None:
    await cards.remove(api, _key(entry), entry.id)


async def listed(api: Api, kind: str) -> list[Entry]:
    """All entries of a kind as their cards have them."""
    found = await cards.read(api, f"clearflow-{kind}-")
    return [Entry.of(said) for said in found.values()]


def _key(entry: Entry) -> str:
    return f"clearflow-{entry.kind}-{place(entry.project, entry.name)}"


def _text(api: Api, entry: Entry) -> str:
    task = f"[{entry.task}]({api.connection.run_url(entry.task)})" if entry.task else ""
    rows = {
        "id": f"`{entry.id}`",
        "project": _cell(entry.project),
        "version": _cell(entry.version),
        "status": "archived" if entry.archived else entry.status,
        "tags": ", ".join(map(_cell, entry.tags)),
        "made": f"{entry.created[:19].replace('T', ' ')} by {_cell(entry.by)}",
        "task": task,
        "parents": ", ".join(f"`{parent}`" for parent in entry.parents),
        **{
            _cell(key): _cell(str(value))
            for key, value in entry.about.items()
            if isinstance(value, str | int | float)
        },
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value]
    return "\n".join(
        [f"# {_cell(entry.name)} {_cell(entry.version)}", "", "| | |", "|-|-|", *lines]
    )


def _cell(words: str) -> str:
    """Words that Markdown and its tables leave as they are."""
    escaped = "".join(f"\\{c}" if c in r"\`*_{}[]<>#|" else c for c in words)
    return " ".join(escaped.split())
