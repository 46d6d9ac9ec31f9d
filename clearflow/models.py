"""Models: entries of the registry with weights in the store, and what they were made from.

What is known of a model stands under keys of its own, so that two who say something at once lose
nothing: `metadata NAME`, `metric TITLE/SERIES`, `dataset ID` that it was trained on, and `used ID`
for each task that it was an input of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clearflow import stores
from clearflow._prefect.http import Api
from clearflow.errors import NotFound, Refused, Usage
from clearflow.registry import collecting, index
from clearflow.registry.registry import Registry
from clearflow.words import entries, tagging
from clearflow.words.entries import DATASET, MODEL, Entry

METADATA, METRIC, USED, TRAINED_ON = "metadata ", "metric ", "used ", "dataset "
_FACTS = (
    "framework", "comment", "labels", "design", "type", "file", "size", "content", "url",
    "iteration", "base",
)  # fmt: skip
_METRICS = "metrics."
_ORDERS = ("created", "changed", "name", "project")


@dataclass(frozen=True)
class Wanted:
    """What a model has to be like; everything that is given has to fit.

    `name` is the whole name, `tags` are as in words/tagging.py; `order` is one of created, changed,
    name, project or `metrics.NAME`, with a minus sign in front for the largest first.
    """

    project: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    framework: str | None = None
    only_published: bool = False
    include_archived: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    task: str | None = None
    order: str = "-created"

    def fits(self, entry: Entry) -> bool:
        about = entry.about
        return (
            self.project in {None, entry.project}
            and self.name in {None, entry.name}
            and self.framework in {None, about.get("framework")}
            and self.task in {None, entry.task}
            and tagging.fits(entry.tags, self.tags)
            and not (self.only_published and entry.status != entries.PUBLISHED)
            and (self.include_archived or not entry.archived)
            and not entry.deleted
            and all(about.get(f"{METADATA}{k}") == v for k, v in self.metadata.items())
        )

    def ordered(self, found: Sequence[Entry]) -> list[Entry]:
        """In the order that was asked for; those without such a metric last. Raises Usage."""
        down, word = self.order.startswith("-"), self.order.lstrip("-")
        if word in _ORDERS:
            return sorted(found, key=lambda e: str(getattr(e, word)), reverse=down)
        if not word.startswith(_METRICS):
            known = ", ".join((*_ORDERS, f"{_METRICS}NAME"))
            raise Usage(f"models cannot be ordered by {self.order!r}", hint=f"by {known}")
        name = word.removeprefix(_METRICS)
        valued = [(metrics_of(entry).get(name), entry) for entry in found]
        there = [(value, entry) for value, entry in valued if value is not None]
        there.sort(key=lambda each: each[0], reverse=down)
        return [e for _, e in there] + [e for value, e in valued if value is None]

    def words(self) -> str:
        """What was asked for, as a sentence goes on."""
        name = "/".join(each for each in (self.project, self.name) if each)
        said = {
            "with tags": ", ".join(self.tags),
            "of framework": self.framework,
            "that is published": self.only_published,
        }
        more = [key if value is True else f"{key} {value}" for key, value in said.items() if value]
        return " ".join([f"model {name}" if name else "model", *more])


class Models:
    """The models of the store, for one person and the task that asks, if it is one."""

    def __init__(self, api: Api, by: str, task: str | None = None) -> None:
        self._api, self._by, self._task = api, by, task

    async def registry(self) -> Registry:
        """Raises Refused, in one line, where the store is not reached."""
        store = await stores.opened(self._api)
        return Registry(self._api, store, MODEL, by=self._by, task=self._task)

    # -- finding -------------------------------------------------------------------------------

    async def find(self, wanted: Wanted, limit: int | None = None) -> list[Entry]:
        """All that fit, as Prefect's index has them."""
        found = [e for e in await index.listed(self._api, MODEL) if wanted.fits(e)]
        return wanted.ordered(found)[:limit]

    async def latest(self, wanted: Wanted) -> Entry:
        """Raises NotFound."""
        found = await self.find(wanted, 1)
        if not found:
            raise NotFound(
                f"there is no {wanted.words()}", hint="`clearflow model ls` lists what there is"
            )
        return found[0]

    async def get(self, id: str) -> Entry:
        """By its id, or the beginning of one; what lies elsewhere as the index has it.

        Raises NotFound.
        """
        if len(id) < 32:
            there = [e for e in await index.listed(self._api, MODEL) if e.id.startswith(id)]
            if len(there) != 1:
                said = f"{len(there)} models have ids that begin with" if there else "no model"
                raise NotFound(f"{said} {id!r}")
            return there[0]
        try:
            entry = await (await self.registry()).get(id)
        except NotFound:
            there = [e for e in await index.listed(self._api, MODEL) if e.id == id]
            if not there:
                raise
            entry = there[0]
        if entry.deleted:
            raise NotFound(f"the model {entry.title} was deleted")
        return entry

    async def of_task(self, task: str) -> tuple[list[Entry], list[Entry]]:
        """The models that a task took in, and those that it made; the first ones first."""
        found = sorted(await index.listed(self._api, MODEL), key=lambda e: e.created)
        taken = [e for e in found if f"{USED}{task}" in e.about]
        taken.sort(key=lambda e: str(e.about[f"{USED}{task}"]))
        return taken, [e for e in found if e.task == task]

    # -- changing ------------------------------------------------------------------------------

    async def make(
        self, project: str, name: str, *, tags: Sequence[str] = (), about: Mapping[str, Any]
    ) -> Entry:
        """A model; of one task and one name there is one, whose weights are the last ones.

        One that is published stays as it is: then there is another one.
        """
        registry = await self.registry()
        if self._task is not None:
            known = [e for e in await registry.named(project, name) if e.task == self._task]
            open_ones = [e for e in known if e.status != entries.PUBLISHED]
            if open_ones:
                entry = await registry.change(open_ones[0].id, entries.NOTED, about=about)
                return await registry.change(entry.id, entries.TAGGED, tags=tags)
        return await registry.create(project, name, version="", tags=tags, about=about)

    async def note(self, id: str, about: Mapping[str, Any]) -> Entry:
        """Say more about a model. Raises Refused for the weights of one that is published."""
        registry = await self._here(id)
        entry = await registry.get(id)
        if entry.status == entries.PUBLISHED and {"content", "url"} & set(about):
            raise Refused(f"the model {entry.title} is published: it stays as it is")
        content = about.get("content")
        if content and not await registry.store.has([content]):
            # Somebody has deleted another model that had the same.
            raise Refused(
                f"the weights of {entry.title} are gone from the store", hint="upload them again"
            )
        return await registry.change(id, entries.NOTED, about=about)

    async def change(self, id: str, what: str, tags: Sequence[str] = ()) -> Entry:
        return await (await self._here(id)).change(id, what, tags=tags)

    async def delete(self, id: str, *, force: bool = False) -> Entry:
        """Delete a model; what is in it leaves the store if nobody else has it.

        Raises Refused for one that is published, unless forced.
        """
        registry = await self._here(id)
        entry = await registry.get(id)
        if entry.status == entries.PUBLISHED and not force:
            raise Refused(f"the model {entry.title} is published", hint="force deletes it")
        after = await registry.change(id, entries.DELETED)
        mine = await collecting.of(registry.store, entry)
        await registry.store.delete(await collecting.spared(self._api, registry.store, mine))
        return after

    async def _here(self, id: str) -> Registry:
        """The registry, if the model can be changed here. Raises NotFound and Refused."""
        registry = await self.registry()
        try:
            await registry.get(id)
        except NotFound:
            reached(await self.get(id), registry.home)
            raise
        return registry

    async def titles(self, ids: Sequence[str]) -> dict[str, str]:
        """What datasets are called, by id; those that are gone by their id."""
        if not ids:
            return {}
        known = {e.id: e.title for e in await index.listed(self._api, DATASET)}
        return {id: known.get(id, id) for id in ids}


def reached(entry: Entry, home: str) -> None:
    """Raises Refused for a model in another folder than that of the store here."""
    if entry.host and entry.host != home:
        raise Refused(
            f"the model {entry.title} is kept in {entry.host}, and not in the store here",
            hint="`clearflow store set URL` names a store that all machines reach",
        )


def metrics_of(entry: Entry) -> dict[str, float]:
    """What was measured of a model, by name."""
    return {k.removeprefix(METRIC): v for k, v in entry.about.items() if k.startswith(METRIC)}


def summary(entry: Entry) -> dict[str, Any]:
    """A model as JSON has it."""
    about = entry.about

    def under(prefix: str) -> dict[str, Any]:
        return {k.removeprefix(prefix): v for k, v in about.items() if k.startswith(prefix)}

    left_out = {"about", "kind", "version", "parents", "deleted"}
    return {
        **{key: value for key, value in entry.seen().items() if key not in left_out},
        **{key: about.get(key) for key in _FACTS},
        "metadata": under(METADATA),
        "metrics": metrics_of(entry),
        "datasets": under(TRAINED_ON),
        "used_by": sorted(under(USED)),
    }
