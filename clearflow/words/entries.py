"""An entry of the registry, a dataset or a model, as its log of records tells it.

The log is only ever added to, so that two people who change an entry at once lose nothing: what it
is now follows from all of its records. Pure: records in, an entry out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

DATASET, MODEL = "dataset", "model"

CREATED, FINALIZED, PUBLISHED = "created", "finalized", "published"
ARCHIVED, UNARCHIVED, DELETED = "archived", "unarchived", "deleted"
TAGGED, UNTAGGED = "tagged", "untagged"
NOTED = "noted"
"""What a record says has happened. `noted` adds to what is known about the entry."""

TOLD = (CREATED, FINALIZED, PUBLISHED, ARCHIVED, DELETED, TAGGED, UNTAGGED)
"""Those that are also events."""

_FORM = 1
_NUMBERED = re.compile(r"(\d+)\.(\d+)\.(\d+)(.*)")


@dataclass(frozen=True)
class Record:
    """One line of a log: what happened, when by the server's clock, by whom, in which task.

    `fields` are what more there is to say: `tags` of those that came or went, `about` of a note.
    """

    what: str
    at: str
    by: str
    task: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def dump(self) -> bytes:
        said = {"form": _FORM, "what": self.what, "at": self.at, "by": self.by, "task": self.task}
        return json.dumps({**said, **self.fields}, ensure_ascii=False, sort_keys=True).encode()

    @classmethod
    def parse(cls, content: bytes) -> Record:
        """Raises ValueError for what is no record."""
        said = dict(json.loads(content))
        said.pop("form", None)
        try:
            known = {key: said.pop(key) for key in ("what", "at", "by")}
        except KeyError as error:
            raise ValueError(f"a record without {error}") from None
        return cls(**known, task=said.pop("task", None), fields=said)


@dataclass(frozen=True)
class Entry:
    """One version of a dataset, or one model.

    `status` is created, finalized or published; `task` is the one that made it; `about` is what
    is known beside that, which depends on the kind. `host` is the folder it lies in, as
    HOST:FOLDER, where nobody has named a store.
    """

    kind: str
    id: str
    name: str
    project: str
    version: str = ""
    status: str = CREATED
    tags: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    created: str = ""
    changed: str = ""
    by: str = ""
    task: str | None = None
    host: str = ""
    archived: bool = False
    deleted: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.project}/{self.name}" + (f" {self.version}" if self.version else "")

    def seen(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **asdict(self),
            "tags": list(self.tags),
            "parents": list(self.parents),
            "about": dict(self.about),
        }

    @classmethod
    def of(cls, seen: Mapping[str, Any]) -> Entry:
        """The inverse of `seen`."""
        lists = {key: tuple(seen.get(key) or ()) for key in ("tags", "parents")}
        return cls(**{**seen, **lists})


def folded(kind: str, id: str, records: Iterable[Record]) -> Entry | None:
    """The entry that these records make, in their order; None without the one that began it.

    An entry is finalized once, and that record comes before those that are in the order of time.
    """
    state: dict[str, Any] | None = None
    for record in records:
        if state is None:
            if record.what == CREATED:
                state = _begun(record)
            continue
        state["changed"] = max(state["changed"], record.at)
        fields = record.fields
        if record.what == TAGGED:
            state["tags"] = list(dict.fromkeys([*state["tags"], *fields.get("tags", ())]))
        elif record.what == UNTAGGED:
            state["tags"] = [tag for tag in state["tags"] if tag not in fields.get("tags", ())]
        elif record.what in {ARCHIVED, UNARCHIVED}:
            state["archived"] = record.what == ARCHIVED
        elif record.what == DELETED:
            state["deleted"] = True
        elif record.what == FINALIZED and state["status"] == CREATED:
            state["status"] = FINALIZED
            state["about"] |= fields.get("about", {})
        elif record.what == PUBLISHED:
            state["status"] = PUBLISHED
        elif record.what == NOTED:
            state["about"] |= fields.get("about", {})
    if state is None:
        return None
    return Entry(kind, id, **{**state, "tags": tuple(state["tags"])})


def _begun(record: Record) -> dict[str, Any]:
    fields = record.fields
    return {
        "name": str(fields.get("name", "")),
        "project": str(fields.get("project", "")),
        "version": str(fields.get("version", "")),
        "tags": list(fields.get("tags", ())),
        "parents": tuple(fields.get("parents", ())),
        "host": str(fields.get("host", "")),
        "about": dict(fields.get("about", {})),
        "status": CREATED,
        "created": record.at,
        "changed": record.at,
        "by": record.by,
        "task": record.task,
    }


def number(version: str) -> tuple[int, int, int] | None:
    """The three numbers of a semantic version; None for any other word."""
    found = _NUMBERED.fullmatch(version.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def following(versions: Iterable[str]) -> str:
    """The version after the highest of these: its last number counted up; 1.0.0 for the first."""
    numbers = [each for each in map(number, versions) if each is not None]
    if not numbers:
        return "1.0.0"
    major, minor, patch = max(numbers)
    return f"{major}.{minor}.{patch + 1}"


def latest_first(entries: Iterable[Entry]) -> list[Entry]:
    """By version where there is one, and by age."""
    return sorted(entries, key=lambda e: (number(e.version) or (-1,), e.created), reverse=True)
