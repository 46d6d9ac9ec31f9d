"""The verbs about datasets. Paths are those of the machine that answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from clearflow import links
from clearflow._prefect.http import Api
from clearflow.datasets import copies, leaving, making, progress
from clearflow.datasets.shelf import METADATA, Shelf, Wanted, summary
from clearflow.errors import NotFound
from clearflow.service.verbs import Verb
from clearflow.words import entries
from clearflow.words.entries import Entry
from clearflow.words.manifest import File, chosen


class Datasets:
    """Answers for one person, `by`; `task` is the one that asks, if it is one."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def verbs(self) -> dict[str, Verb]:
        return {
            "dataset.create": self._create,
            "dataset.get": self._get,
            "dataset.list": self._list,
            "dataset.add": self._add,
            "dataset.link": self._link,
            "dataset.remove": self._remove,
            "dataset.sync": self._sync,
            "dataset.upload": self._upload,
            "dataset.finalize": self._finalize,
            "dataset.change": self._change,
            "dataset.note": self._note,
            "dataset.noted": self._noted,
            "dataset.files": self._files,
            "dataset.changes": self._changes,
            "dataset.local": self._local,
            "dataset.mutable": self._mutable,
            "dataset.squash": self._squash,
            "dataset.delete": self._delete,
            "dataset.verify": self._verify,
            "dataset.graph": self._graph,
            "dataset.reindex": self._reindex,
            "dataset.progress": self._progress,
        }

    def _shelf(self, task: str | None = None, workers: int | None = None) -> Shelf:
        return Shelf(self._api, self._by, task, workers)

    # -- being there ---------------------------------------------------------------------------

    async def _create(
        self,
        name: str | None = None,
        project: str | None = None,
        version: str | None = None,
        tags: Sequence[str] = (),
        parents: Sequence[str] = (),
        description: str = "",
        by_task: str | None = None,
    ) -> dict[str, Any]:
        """The name and the project are those of the last parent where they are not said."""
        shelf = self._shelf(by_task)
        if parents and not (name and project):
            last = await shelf.get(parents[-1])
            name, project = name or last.name, project or last.project
        entry = await making.create(
            shelf,
            project or "",
            name or "",
            version=version,
            tags=tags,
            parents=parents,
            description=description,
        )
        return summary(entry)

    async def _get(self, **wanted: Any) -> dict[str, Any]:
        return summary(await self._shelf().find(Wanted(**wanted)))

    async def _list(
        self, pattern: str | None = None, below: str | None = None, **wanted: Any
    ) -> list[dict[str, Any]]:
        """All that fit; `pattern` is a part of the name, `below` a project with those in it."""
        found = await self._shelf().listed(Wanted(**wanted))
        return [
            summary(e)
            for e in found
            if (pattern is None or pattern in e.name)
            and (below is None or e.project == below or e.project.startswith(f"{below}/"))
        ]

    async def _squash(
        self,
        name: str,
        project: str,
        ids: Sequence[str],
        version: str | None = None,
        tags: Sequence[str] = (),
        by_task: str | None = None,
    ) -> dict[str, Any]:
        shelf = self._shelf(by_task)
        return summary(await making.squash(shelf, project, name, ids, version=version, tags=tags))

    async def _delete(self, id: str, force: bool = False) -> None:
        await leaving.delete(self._shelf(), id, force=force)

    async def _reindex(self) -> int:
        return await (await self._shelf().registry()).reindex()

    # -- its files -----------------------------------------------------------------------------

    async def _add(
        self,
        id: str,
        paths: Sequence[str],
        wildcards: Sequence[str] = (),
        base: str | None = None,
        folder: str = "",
        recursive: bool = True,
    ) -> int:
        options = {"wildcards": wildcards, "base": base, "folder": folder, "recursive": recursive}
        return await making.add(self._shelf(), id, paths, **options)

    async def _link(
        self,
        id: str,
        urls: Sequence[str],
        wildcards: Sequence[str] = (),
        folder: str = "",
        recursive: bool = True,
    ) -> int:
        shelf = self._shelf()
        inner = folder.strip("/")
        place = (await shelf.store()).place
        files = []
        for url in urls:
            for found in await links.find(url, wildcards, recursive, place):
                path = f"{inner}/{found.name}" if inner else found.name
                files.append(File(path, found.size, "", link=found.url))
        return await making.link(shelf, id, files)

    async def _remove(self, id: str, path: str) -> int:
        return await making.remove(self._shelf(), id, path)

    async def _sync(
        self, id: str, folder: str, inner: str = "", watch: str | None = None
    ) -> dict[str, Any]:
        with progress.watched(watch) as seen:
            return asdict(await making.sync(self._shelf(), id, folder, inner.strip("/"), seen))

    async def _upload(
        self,
        id: str,
        workers: int | None = None,
        watch: str | None = None,
        by_task: str | None = None,
    ) -> dict[str, Any]:
        with progress.watched(watch) as seen:
            return await making.upload(self._shelf(by_task, workers), id, seen)

    async def _finalize(
        self,
        id: str,
        auto_upload: bool = False,
        watch: str | None = None,
        by_task: str | None = None,
    ) -> dict[str, Any]:
        shelf = self._shelf(by_task)
        if auto_upload:
            with progress.watched(watch) as seen:
                await making.upload(shelf, id, seen)
        return summary(await making.finalize(shelf, id))

    async def _files(self, id: str, only: Sequence[str] | None = None) -> list[list[Any]]:
        """Path, size, hash and link of each; of a draft with what waits for its upload here."""
        shelf = self._shelf()
        files = await making.pending(shelf, await shelf.get(id), hashed=False)
        found = chosen(files, only)
        return [[p, f.size, f.hash, f.link or None] for p, f in sorted(found.items())]

    async def _changes(self, id: str, other: str | None = None) -> dict[str, Any]:
        return asdict(await making.difference(self._shelf(), id, other))

    async def _local(
        self,
        id: str,
        part: int | None = None,
        parts: int | None = None,
        only: Sequence[str] | None = None,
        workers: int | None = None,
        watch: str | None = None,
    ) -> str:
        with progress.watched(watch) as seen:
            shelf = self._shelf(workers=workers)
            return await copies.local(shelf, id, seen, part=part, parts=parts, only=only)

    async def _mutable(
        self,
        id: str,
        target: str,
        overwrite: bool = False,
        part: int | None = None,
        parts: int | None = None,
        workers: int | None = None,
        watch: str | None = None,
    ) -> str:
        with progress.watched(watch) as seen:
            shelf, share = self._shelf(workers=workers), {"part": part, "parts": parts}
            return await copies.mutable(shelf, id, target, seen, overwrite=overwrite, **share)

    async def _verify(
        self,
        id: str,
        folder: str | None = None,
        sizes: bool = False,
        repair: bool = False,
        workers: int | None = None,
        watch: str | None = None,
    ) -> dict[str, str]:
        shelf, how = self._shelf(workers=workers), {"sizes": sizes, "repair": repair}
        with progress.watched(watch) as seen:
            return await copies.verify(shelf, id, seen, folder, **how)

    async def _graph(self, id: str) -> dict[str, list[str]]:
        shelf = self._shelf()
        return await shelf.graph(await shelf.get(id))

    async def _progress(self, watch: str) -> tuple[int, int] | None:
        return progress.seen(watch)

    # -- what is said of it --------------------------------------------------------------------

    async def _change(
        self,
        id: str,
        publish: bool = False,
        archive: bool | None = None,
        tags: Sequence[str] = (),
        untag: Sequence[str] = (),
        description: str | None = None,
        by_task: str | None = None,
    ) -> dict[str, Any]:
        shelf = self._shelf(by_task)
        entry = await shelf.get(id)
        if publish:
            await making.publish(shelf, entry)
        registry, id = await shelf.registry(), entry.id
        if archive is not None:
            await registry.change(id, entries.ARCHIVED if archive else entries.UNARCHIVED)
        if tags:
            await registry.change(id, entries.TAGGED, tags=tags)
        if untag:
            await registry.change(id, entries.UNTAGGED, tags=untag)
        if description is not None:
            await registry.change(id, entries.NOTED, about={"description": description})
        return summary(await registry.get(id))

    async def _note(
        self, id: str, name: str, type: str, file: str, content: str, preview: str = ""
    ) -> None:
        """Keep an object with a dataset, packed as an artifact of a task is."""
        shelf = self._shelf()
        entry = await shelf.get(id)
        digest = await (await shelf.store()).put_bytes(base64.b64decode(content))
        about = {"type": type, "file": file, "object": digest, "preview": preview}
        registry = await shelf.registry()
        await registry.change(entry.id, entries.NOTED, about={METADATA + name: about})

    async def _noted(self, id: str, name: str) -> dict[str, Any]:
        shelf = self._shelf()
        entry: Entry = await shelf.get(id)
        about = entry.about.get(METADATA + name)
        if about is None:
            there = ", ".join(summary(entry)["metadata"]) or "none"
            raise NotFound(
                f"the dataset {entry.title} has no metadata {name!r}", hint=f"it has: {there}"
            )
        content = await (await shelf.store()).get_bytes(about["object"])
        return {**about, "content": base64.b64encode(content).decode()}
