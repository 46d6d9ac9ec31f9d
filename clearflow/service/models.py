"""The verbs about models."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from clearflow._prefect.http import Api
from clearflow.errors import NotFound, Usage
from clearflow.models import (
    METADATA,
    METRIC,
    TRAINED_ON,
    USED,
    Models,
    Wanted,
    reached,
    summary,
)
from clearflow.service.spool import elsewhere, piece_of
from clearflow.service.verbs import Verb
from clearflow.tasks import find as finding
from clearflow.tasks.describe import describe
from clearflow.words import entries

_DATASETS = "Datasets"  # the section of a task's parameters that names those it has got
_DIGEST = re.compile("[0-9a-f]{64}")
_CHANGES = {
    "publish": entries.PUBLISHED,
    "archive": entries.ARCHIVED,
    "unarchive": entries.UNARCHIVED,
    "tag": entries.TAGGED,
    "untag": entries.UNTAGGED,
}


class ModelVerbs:
    """Answers for one person, `by`; `by_task` is the task that asks, if it is one."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def verbs(self) -> dict[str, Verb]:
        return {
            "model.create": self._create,
            "model.note": self._note,
            "model.change": self._change,
            "model.use": self._use,
            "model.get": self._get,
            "model.find": self._find,
            "model.query": self._query,
            "model.of": self._of,
            "model.piece": self._piece,
            "model.lineage": self._lineage,
            "model.delete": self._delete,
            "model.reindex": self._reindex,
        }

    def _models(self, task: str | None = None) -> Models:
        return Models(self._api, self._by, task)

    async def _create(
        self,
        name: str,
        project: str | None = None,
        by_task: str | None = None,
        tags: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
        datasets: Sequence[str] = (),
    ) -> dict[str, Any]:
        """A model, of the task's project where none is said."""
        said = {**_checked(about or {}), **{f"{TRAINED_ON}{id}": "" for id in datasets}}
        if by_task is not None:
            run = await finding.one(self._api, by_task)
            by_task = run.task_id
            project = project or describe(self._api, run)["project"]
            said |= _trained_on(run.parameters)
        if not project:
            raise Usage("a model needs a project")
        made = await self._models(by_task).make(project, name, tags=tags, about=said)
        return summary(made)

    async def _note(
        self,
        id: str,
        about: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        by_task: str | None = None,
    ) -> dict[str, Any]:
        """Say more about a model; what is named replaces what was said of it before."""
        said = _checked(about or {})
        said |= {f"{METADATA}{key}": value for key, value in (metadata or {}).items()}
        said |= {f"{METRIC}{key}": float(value) for key, value in (metrics or {}).items()}
        if by_task is not None and "content" in said:
            said |= _trained_on((await finding.one(self._api, by_task)).parameters)
        return summary(await self._models(by_task).note(id, said))

    async def _change(
        self, id: str, what: str, tags: Sequence[str] = (), by_task: str | None = None
    ) -> dict[str, Any]:
        """publish, archive, unarchive, tag or untag it."""
        models = self._models(by_task)
        entry = await models.get(id)
        return summary(await models.change(entry.id, _CHANGES[what], tags))

    async def _use(self, id: str, by_task: str) -> dict[str, Any]:
        """A task takes a model in."""
        run = await finding.one(self._api, by_task)
        models = self._models(run.task_id)
        entry = await models.get(id)
        key = f"{USED}{run.task_id}"
        if key in entry.about:
            return summary(entry)
        return summary(await models.note(entry.id, {key: self._api.clock.now().isoformat()}))

    async def _get(self, id: str) -> dict[str, Any]:
        return summary(await self._models().get(id))

    async def _find(self, **wanted: Any) -> dict[str, Any]:
        """The latest that fits."""
        return summary(await self._models().latest(Wanted(**wanted)))

    async def _query(
        self, pattern: str | None = None, limit: int | None = None, **wanted: Any
    ) -> list[dict[str, Any]]:
        """All that fit; `pattern` is a regular expression that is searched in the name."""
        try:
            like = re.compile(pattern or "")
        except re.error as error:
            raise Usage(f"{pattern!r} is not a regular expression: {error}") from None
        found = await self._models().find(Wanted(**wanted))
        return [summary(each) for each in found if like.search(each.name)][:limit]

    async def _of(self, task: str) -> dict[str, list[dict[str, Any]]]:
        """The models of a task: those that it took in, and those that it made."""
        run = await finding.one(self._api, task)
        taken, made = await self._models().of_task(run.task_id)
        return {"input": [summary(e) for e in taken], "output": [summary(e) for e in made]}

    async def _piece(self, id: str, offset: int = 0) -> dict[str, Any]:
        """A piece of what is in it, in base64, and its whole size."""
        models = self._models()
        entry = await models.get(id)
        digest = entry.about.get("content")
        if not digest:
            raise NotFound(f"the model {entry.title} has no weights in the store")
        if url := entry.about.get("url"):
            piece, total = await piece_of(self._api, f"elsewhere:{digest}@{url}", offset)
            return {"content": base64.b64encode(piece).decode(), "total": total}
        reached(entry, (await models.registry()).home)
        where = f"store:{digest}" + (f"@{socket.gethostname()}" if entry.host else "")
        piece, total = await piece_of(self._api, where, offset)
        return {"content": base64.b64encode(piece).decode(), "total": total}

    async def _lineage(self, id: str) -> dict[str, Any]:
        """What a model was made from and by, and what uses it."""
        models = self._models()
        entry = await models.get(id)
        seen = summary(entry)
        titles = await models.titles(list(seen["datasets"]))
        base = seen["base"]
        return {
            "model": {"id": entry.id, "title": entry.title},
            "task": await self._task(entry.task) if entry.task else None,
            "datasets": [{"id": id, "title": title} for id, title in titles.items()],
            "base": summary(await models.get(base)) if base else None,
            "used_by": [await self._task(task) for task in seen["used_by"]],
        }

    async def _task(self, id: str) -> dict[str, Any]:
        try:
            seen = describe(self._api, await finding.one(self._api, id))
        except NotFound:
            return {"id": id, "name": "", "project": "", "status": "deleted"}
        return {key: seen[key] for key in ("id", "name", "project", "status")}

    async def _delete(self, id: str, force: bool = False, by_task: str | None = None) -> None:
        models = self._models(by_task)
        await models.delete((await models.get(id)).id, force=force)

    async def _reindex(self) -> int:
        """Make all that Prefect has of the models anew; how many there are."""
        return await (await self._models().registry()).reindex()


def _checked(about: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a model; its content is the hash of an object in the store."""
    said = {key: value for key, value in about.items() if value is not None}
    if "content" in said and (away := elsewhere(str(said["content"]))):
        said["content"], said["url"] = away
    elif "content" in said:
        said["url"] = ""
        digest = _DIGEST.search(str(said["content"]))
        if digest is None:
            raise Usage(f"{said['content']!r} names no content")
        said["content"] = digest[0]
    elif "url" in said:
        said["content"] = ""
    return said


def _trained_on(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The datasets that a task has got, by the names that it gives them."""
    named = parameters.get(_DATASETS)
    known = named.items() if isinstance(named, Mapping) else ()
    return {f"{TRAINED_ON}{id}": str(alias) for alias, id in known if isinstance(id, str) and id}
