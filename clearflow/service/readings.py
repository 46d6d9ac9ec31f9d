"""The verbs about the results of tasks."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from clearflow._prefect.http import Api
from clearflow.errors import Refused
from clearflow.service.crossings import crossings
from clearflow.service.results import Results, Scalars
from clearflow.service.spool import elsewhere, is_stored, piece_of
from clearflow.service.verbs import Verb
from clearflow.tasks import find as finding
from clearflow.tasks import results
from clearflow.words.curves import stored, thinned


class Readings:
    """Reads what tasks have reported, and reports for those that have no supervisor to tell."""

    def __init__(self, api: Api, by: str) -> None:
        self._api = api

    def verbs(self) -> dict[str, Verb]:
        return {
            "report": self._report,
            "scalars": self._scalars,
            "last": self._last,
            "artifacts": self._artifacts,
            "artifact": self._artifact,
        }

    async def _report(
        self,
        task: str,
        scalars: Scalars = (),
        items: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Results of a task that somebody else runs, or nobody; and of a flow, by itself."""
        run = await finding.one(self._api, task)
        passing = crossings(self._api, run.id)
        passing.take(scalars)
        failed: list[str] = []
        writing = Results(self._api, run.id, failed.append)
        writing.take(scalars, items)
        await asyncio.gather(writing.written(), passing.told())
        if failed:
            raise Refused(failed[0])

    async def _scalars(self, task: str, most: int) -> list[Any]:
        """Title, series, iterations and values, at most so many of each."""
        run = await finding.one(self._api, task)
        found = []
        for (title, series), curve in sorted((await results.curves(self._api, run.id)).items()):
            few = thinned(curve, most)
            found.append([title, series, few.iterations, [stored(v) for v in few.values]])
        return found

    async def _last(self, task: str) -> list[Any]:
        """Title, series, last, min, max and last iteration."""
        run = await finding.one(self._api, task)
        found = await results.last(self._api, run.id)
        numbers = [(each, map(stored, (each.last, each.min, each.max))) for each in found]
        return [[each.title, each.series, *three, each.iteration] for each, three in numbers]

    async def _artifacts(self, task: str) -> list[dict[str, Any]]:
        run = await finding.one(self._api, task)
        found = []
        for each in await results.stored(self._api, run.id):
            there = elsewhere(each.content)
            found.append({**asdict(each), "url": there[1] if there else ""})
        return found

    async def _artifact(self, task: str, name: str, offset: int = 0) -> dict[str, Any]:
        """An artifact with its content in base64, or the next piece of it, and its whole size."""
        run = await finding.one(self._api, task)
        about = await results.named(self._api, run, name)
        if is_stored(about.content):
            piece, total = await piece_of(self._api, about.content, offset)
        else:
            content = await results.content(self._api, about)
            piece, total = content[offset:], len(content)
        return {**asdict(about), "content": base64.b64encode(piece).decode(), "total": total}
