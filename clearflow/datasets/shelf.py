"""Datasets as they stand in the store: found, and what is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from clearflow import stores
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError, NotFound, Refused, Usage
from clearflow.registry import Registry, index
from clearflow.store import Store
from clearflow.words import entries, tagging
from clearflow.words.entries import DATASET, Entry
from clearflow.words.manifest import File, Manifest

UPLOAD, METADATA = "upload ", "metadata "
"""How keys begin, among what is known of a dataset, that stand for one upload or one thing said."""


@dataclass(frozen=True)
class Wanted:
    """What a dataset has to be like; everything that is given has to fit.

    Of several the one of the highest version is meant, and one that is finalized before a draft.
    """

    id: str | None = None
    project: str | None = None
    name: str | None = None
    version: str | None = None
    tags: Sequence[str] = ()
    only_completed: bool = False
    only_published: bool = False
    include_archived: bool = False
    draft: bool = False

    def fits(self, entry: Entry) -> bool:
        return (
            self.id in {None, entry.id}
            and self.project in {None, entry.project}
            and self.name in {None, entry.name}
            and self.version in {None, entry.version}
            and tagging.fits(entry.tags, self.tags)
            and not (self.only_completed and entry.status == entries.CREATED)
            and not (self.draft and entry.status != entries.CREATED)
            and not (self.only_published and entry.status != entries.PUBLISHED)
            and (self.include_archived or self.id is not None or not entry.archived)
            and not entry.deleted
        )

    def words(self) -> str:
        """What was asked for, as a sentence goes on."""
        said = {
            "of id": self.id,
            "of version": self.version,
            "with tags": ", ".join(self.tags),
            "that is a draft": self.draft,
            "that is published": self.only_published,
            "that is finalized": self.only_completed and not self.only_published,
        }
        name = "/".join(each for each in (self.project, self.name) if each)
        parts = [f"dataset {name}" if name else "dataset"]
        parts += [
            key if value is True else f"{key} {value}" for key, value in said.items() if value
        ]
        return " ".join(parts)


class Shelf:
    """The datasets of the store, for one person and the task that asks, if it is one."""

    def __init__(
        self, api: Api, by: str, task: str | None = None, workers: int | None = None
    ) -> None:
        self.api, self.by, self.task, self._workers = api, by, task, workers
        self._registry: Registry | None = None
        self._contents: dict[str, dict[str, File]] = {}
        self._manifests: dict[str, Manifest] = {}

    async def registry(self) -> Registry:
        """Raises Refused, in one line, where the store is not reached."""
        if self._registry is None:
            store = await stores.opened(self.api)
            store.width = self._workers or store.width
            self._registry = Registry(self.api, store, DATASET, by=self.by, task=self.task)
        return self._registry

    async def store(self) -> Store:
        return (await self.registry()).store

    # -- finding -------------------------------------------------------------------------------

    async def listed(self, wanted: Wanted) -> list[Entry]:
        """All that fit, as Prefect's index has them, the latest first."""
        found = [e for e in await index.listed(self.api, DATASET) if wanted.fits(e)]
        return sorted(found, key=lambda each: each.created, reverse=True)

    async def find(self, wanted: Wanted) -> Entry:
        """The latest that fits, by the truth in the store. Raises NotFound and Refused."""
        if wanted.id is not None:
            entry = await self.get(wanted.id)
            if not replace(wanted, id=entry.id).fits(entry):
                raise NotFound(f"there is no {wanted.words()}: {entry.title} does not fit")
            return entry
        if not wanted.name:
            raise Usage("which dataset?", hint="its id, or its name and project")
        registry = await self.registry()
        if wanted.project:
            found = await registry.named(wanted.project, wanted.name)
        else:
            # The index knows in which projects there is one.
            there = await index.listed(self.api, DATASET)
            projects = {e.project for e in there if e.name == wanted.name}
            found = [e for p in projects for e in await registry.named(p, wanted.name)]
        fitting = entries.latest_first(e for e in found if wanted.fits(e))
        done = [e for e in fitting if e.status != entries.CREATED]
        if not fitting:
            raise await self._missing(wanted, found)
        return (done or fitting)[0]

    async def get(self, id: str) -> Entry:
        """By its id, or the beginning of one. Raises NotFound and Refused."""
        if len(id) < 32:
            there = [e.id for e in await index.listed(self.api, DATASET) if e.id.startswith(id)]
            if len(there) != 1:
                said = f"{len(there)} datasets have ids that begin with" if there else "no dataset"
                raise NotFound(f"{said} {id!r}")
            id = there[0]
        try:
            entry = await (await self.registry()).get(id)
        except NotFound:
            raise await self._missing(Wanted(id), []) from None
        if entry.deleted:
            raise NotFound(f"the dataset {entry.title} was deleted")
        return entry

    async def _missing(self, wanted: Wanted, others: Sequence[Entry]) -> ClearflowError:
        """Why there is none that fits; another machine may have it."""
        home = (await self.registry()).home
        for entry in await index.listed(self.api, DATASET):
            if wanted.fits(entry) and entry.host and entry.host != home:
                return Refused(
                    f"the dataset {entry.title} is kept in {entry.host}, and not in the store here",
                    hint="`clearflow store set URL` names a store that all machines reach",
                )
        there = ", ".join(e.version for e in others[:5] if e.version)
        hint = f"there are: {there}" if there else "`clearflow dataset ls` lists them"
        return NotFound(f"there is no {wanted.words()}", hint=hint)

    # -- what is in one ------------------------------------------------------------------------

    async def manifest(self, digest: str) -> Manifest:
        if digest not in self._manifests:
            content = await (await self.store()).get_bytes(digest)
            # Of a million files it takes seconds, in which others want an answer too.
            self._manifests[digest] = await asyncio.to_thread(Manifest.parse, content)
        return self._manifests[digest]

    async def keep(self, manifest: Manifest) -> str:
        """Have a manifest in the store; its hash."""
        known = next((digest for digest, each in self._manifests.items() if each == manifest), None)
        if known is not None:
            return known
        digest = await (await self.store()).put_bytes(await asyncio.to_thread(manifest.dump))
        self._manifests[digest] = manifest
        return digest

    async def content(self, entry: Entry) -> dict[str, File]:
        """The files of a dataset by path; of a draft those that are uploaded."""
        if entry.id in self._contents:
            return self._contents[entry.id]
        if (digest := entry.about.get("manifest")) is not None:
            manifest = await self.manifest(digest)
            parents = [] if manifest.whole else await self.parents(entry)
            files = self._contents[entry.id] = manifest.over(parents)
            return files
        files = Manifest().over(await self.parents(entry))
        for digest in uploads(entry):
            files = (await self.manifest(digest)).over([files])
        return files

    async def parents(self, entry: Entry) -> list[dict[str, File]]:
        """The files of each parent, in their order; also of one that was deleted by force."""
        registry = await self.registry()
        return [await self.content(await registry.get(parent)) for parent in entry.parents]

    async def inherited(self, entry: Entry) -> dict[str, File]:
        """What a dataset has of its parents."""
        return Manifest().over(await self.parents(entry))

    async def graph(self, entry: Entry) -> dict[str, list[str]]:
        """The parents of a dataset and of all that it comes from, by id."""
        registry = await self.registry()
        found: dict[str, list[str]] = {}
        waiting = [entry]
        while waiting:
            each = waiting.pop()
            found[each.id] = list(each.parents)
            waiting += [await registry.get(p) for p in each.parents if p not in found]
        return found


def uploads(entry: Entry) -> list[str]:
    """The manifests of what was uploaded to a draft, in their order."""
    return [entry.about[key]["manifest"] for key in sorted(entry.about) if key.startswith(UPLOAD)]


def summary(entry: Entry) -> dict[str, Any]:
    """A dataset as JSON has it."""
    about = entry.about
    extra = {key: about.get(key) for key in _FACTS}
    names = [key.removeprefix(METADATA) for key in about if key.startswith(METADATA)]
    seen = {key: value for key, value in entry.seen().items() if key not in {"about", "kind"}}
    return {**seen, **extra, "metadata": sorted(names)}


_FACTS = ("files", "size", "hash", "added", "modified", "removed", "description", "squashed")


def mutable(entry: Entry) -> None:
    """Raises Refused for a dataset that is finalized."""
    if entry.status != entries.CREATED:
        raise Refused(
            f"the dataset {entry.title} is {entry.status}: it is not changed any more",
            hint=f"a new version of it: Dataset.create(…, parent_datasets=[{entry.id!r}])",
        )


def finalized(entry: Entry) -> None:
    """Raises Refused for a draft."""
    if entry.status == entries.CREATED:
        raise Refused(
            f"the dataset {entry.title} is not finalized",
            hint=f"`clearflow dataset finalize {entry.id}` after its upload",
        )
