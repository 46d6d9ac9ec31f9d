"""Making, changing and finding entries: each change is a record, an event and a new card.

registry/KIND/NAME/ID/…     the records of an entry, in the order of their names
registry/KIND-ids/ID        where an entry is
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from clearflow import clock
from clearflow._prefect import events
from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound, Usage
from clearflow.registry import index
from clearflow.store import Store
from clearflow.words import entries
from clearflow.words.entries import Entry, Record

# Records that there is only one of have names of their own, before those of all others.
_FIRST = "0"
_ONCE = {entries.FINALIZED: "1"}
_ID = re.compile("[0-9a-f]{32}")
_TRIES = 50


class Registry:
    """The entries of one kind in a store, for one person and the task that asks, if it is one."""

    def __init__(
        self, api: Api, store: Store, kind: str, *, by: str, task: str | None = None
    ) -> None:
        self._api, self.store, self.kind = api, store, kind
        self._by, self._task = by, task

    @property
    def home(self) -> str:
        """Whose folder the store is, as HOST:FOLDER; empty for one that all machines share."""
        return "" if self.store.place.shared else f"{socket.gethostname()}:{self.store.url}"

    # -- finding -------------------------------------------------------------------------------

    async def get(self, id: str) -> Entry:
        """An entry by its id, also one that was deleted. Raises NotFound."""
        return (await self._read(id))[0]

    async def named(self, project: str, name: str, *, deleted: bool = False) -> list[Entry]:
        """All entries of a name, the highest version first."""
        top = f"registry/{self.kind}/{index.place(project, name)}"
        found = self._folded(await self.store.records(top))
        return entries.latest_first(e for e in found if deleted or not e.deleted)

    async def all(self, *, deleted: bool = False) -> list[Entry]:
        """Every entry in the store: reads all of it."""
        found = await self.store.records(f"registry/{self.kind}")
        inner = {name.partition("/")[2]: content for name, content in found.items()}
        return [each for each in self._folded(inner) if deleted or not each.deleted]

    def _folded(self, found: Mapping[str, bytes]) -> list[Entry]:
        """Entries of records by names such as ID/RECORD."""
        logs: dict[str, list[Record]] = {}
        for name in sorted(found):
            logs.setdefault(name.partition("/")[0], []).append(Record.parse(found[name]))
        folded = (entries.folded(self.kind, id, records) for id, records in logs.items())
        return [each for each in folded if each is not None]

    async def records(self, id: str) -> list[Record]:
        """Everything that happened to an entry, in its order. Raises NotFound."""
        found = await self.store.records(await self._folder(id))
        return [Record.parse(found[name]) for name in sorted(found)]

    async def _read(self, id: str) -> tuple[Entry, list[Record]]:
        records = await self.records(id)
        entry = entries.folded(self.kind, id, records)
        if entry is None:
            raise NotFound(f"there is no {self.kind} {id} in the store {self.store.url}")
        return entry, records

    async def _folder(self, id: str) -> str:
        if not _ID.fullmatch(id):
            raise NotFound(f"{id!r} is no id of a {self.kind}")
        try:
            place = await self.store.read_record(f"registry/{self.kind}-ids/{id}")
        except NotFound:
            raise NotFound(f"there is no {self.kind} {id} in the store {self.store.url}") from None
        return f"registry/{self.kind}/{place.decode()}/{id}"

    # -- changing ------------------------------------------------------------------------------

    async def create(
        self,
        project: str,
        name: str,
        *,
        version: str | None = None,
        tags: Iterable[str] = (),
        parents: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
    ) -> Entry:
        """A new entry. Without a `version` the next one; an empty one for none at all.

        Raises Usage, and Conflict for a version that there is already.
        """
        if not name.strip() or not project.strip():
            raise Usage(f"a {self.kind} needs a name and a project")
        id = uuid4().hex
        number = await self._take(project, name, version, id)
        fields = {
            "name": name,
            "project": project,
            "version": number,
            "tags": _unique(tags),
            "parents": list(parents),
            "host": self.home,
            "about": dict(about or {}),
        }
        record = Record(entries.CREATED, _iso(self._api.clock.now()), self._by, self._task, fields)
        place = index.place(project, name)
        await self.store.write_record(f"registry/{self.kind}-ids/{id}", place.encode())
        await self.store.write_record(f"registry/{self.kind}/{place}/{id}/{_FIRST}", record.dump())
        entry = await self.get(id)
        told = self._tell(entry, entries.CREATED, entry.tags)
        await asyncio.gather(told, self.show(id, new=True))
        return entry

    async def _take(self, project: str, name: str, version: str | None, id: str) -> str:
        if version == "":
            return ""
        if version is not None:
            if not await index.take(self._api, self.kind, project, name, version, id):
                raise Conflict(
                    f"there is a version {version} of the {self.kind} {project}/{name} already",
                    hint="without a version the next one is counted up",
                )
            return version
        known = {each.version for each in await self.named(project, name, deleted=True)}
        for _ in range(_TRIES):
            known |= set(await index.taken(self._api, self.kind, project, name))
            number = entries.following(known)
            if await index.take(self._api, self.kind, project, name, number, id):
                return number
        raise Conflict(f"too many make versions of the {self.kind} {project}/{name} at once")

    async def change(
        self,
        id: str,
        what: str,
        *,
        tags: Iterable[str] = (),
        about: Mapping[str, Any] | None = None,
        shown: bool = True,
    ) -> Entry:
        """Something happens to an entry; the entry after it. What changes nothing is not told.

        What is not `shown` is on its card only after the next change.

        Raises NotFound, also for an entry that was deleted, and Conflict when somebody else has
        finalized it at the same moment.
        """
        before, records = await self._read(id)
        if before.deleted:
            raise NotFound(f"the {self.kind} {before.title} was deleted")
        changed = _changes(before, what, _unique(tags))
        if changed is None:
            return before
        fields: dict[str, Any] = {}
        if what in {entries.TAGGED, entries.UNTAGGED}:
            fields["tags"] = changed
        if about is not None:
            fields["about"] = dict(about)
        # No earlier than anything that was known when it was made, whatever the clocks say.
        last = max(clock.parse(each.at) for each in records)
        at = max(self._api.clock.now(), last + timedelta(microseconds=1))
        record = Record(what, _iso(at), self._by, self._task, fields)
        name = _ONCE.get(what) or f"{_stamp(record.at)}-{secrets.token_hex(4)}"
        try:
            await self.store.write_record(f"{await self._folder(id)}/{name}", record.dump())
        except Conflict:
            raise Conflict(f"the {self.kind} {before.title} was {what} already") from None
        entry = await self.get(id)
        told = [self._tell(entry, what, changed)] if what in entries.TOLD else []
        await asyncio.gather(*told, *([self.show(id)] if shown else []))
        return entry

    async def _tell(self, entry: Entry, what: str, changed: Iterable[str]) -> None:
        said = {
            "id": entry.id,
            "name": entry.name,
            "project": entry.project,
            "version": entry.version,
            "tags": list(entry.tags),
            "changed": sorted(changed),
            "status": "archived" if entry.archived else entry.status,
            "by": self._by,
            "task": self._task,
        }
        labels = {
            "prefect.resource.name": entry.name,
            "clearflow.name": entry.name,
            "clearflow.project": entry.project,
        }
        if entry.version:
            labels["clearflow.version"] = entry.version
        await events.emit(
            self._api,
            f"clearflow.{self.kind}.{what}",
            f"clearflow.{self.kind}.{entry.id}",
            labels=labels,
            related={f"prefect.flow-run.{self._task}": "flow-run"} if self._task else None,
            payload=said,
        )

    # -- the index -----------------------------------------------------------------------------

    async def show(self, id: str, *, new: bool = False) -> None:
        """Have Prefect show an entry as it is, whoever else changes it meanwhile."""
        while True:
            entry, records = await self._read(id)
            if entry.deleted:
                await index.hide(self._api, entry)
                await index.give_back(self._api, entry)
            else:
                await index.show(self._api, entry, new=new)
            new = False
            # Somebody's card may have been overwritten by this one, which did not know the change.
            if len(await self.records(id)) == len(records):
                return

    async def reindex(self) -> int:
        """Make all that Prefect has of the entries anew; how many there are.

        What is kept in a folder that some machine has for itself stays as it is, if it is not this.
        """
        there = {each.id: each for each in await self.all()}
        for entry in await index.listed(self._api, self.kind):
            if entry.host == self.home and entry.id not in there:
                await index.hide(self._api, entry)
                await index.give_back(self._api, entry)
        for entry in entries.latest_first(there.values())[::-1]:
            await index.show(self._api, entry)
            if entry.version:
                where = (self.kind, entry.project, entry.name, entry.version)
                await index.take(self._api, *where, entry.id)
        others = {e.id for e in await index.listed(self._api, self.kind)}
        await index.give_back_unused(self._api, self.kind, others | set(there))
        return len(there)


def _changes(entry: Entry, what: str, tags: Sequence[str]) -> list[str] | None:
    """The tags that come or go; None when nothing changes at all."""
    if what == entries.TAGGED:
        return [tag for tag in tags if tag not in entry.tags] or None
    if what == entries.UNTAGGED:
        return [tag for tag in tags if tag in entry.tags] or None
    done = {
        entries.PUBLISHED: entry.status == entries.PUBLISHED,
        entries.ARCHIVED: entry.archived,
        entries.UNARCHIVED: not entry.archived,
    }
    return None if done.get(what) else []


def _unique(tags: Iterable[str]) -> list[str]:
    if isinstance(tags, str):
        raise Usage(f"tags are a list, not {tags!r}")
    return list(dict.fromkeys(str(tag) for tag in tags))


def _iso(moment: Any) -> str:
    return str(moment.isoformat(timespec="microseconds"))


def _stamp(at: str) -> str:
    return re.sub("[^0-9T.]", "", at.partition("+")[0])
