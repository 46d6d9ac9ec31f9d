"""Datasets on a real server: people who change one at once, what Prefect sees of it, and tasks."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from clearflow._prefect import events
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound
from clearflow.registry import Registry, index
from clearflow.store import Store
from clearflow.words import entries
from clearflow.words.places import Place
from tests.support.server import PrefectServer
from tests.support.waiting import wait_until_async


async def test_people_who_change_an_entry_at_once_lose_nothing(
    server: PrefectServer, tmp_path: Path, unique: Callable[[str], str]
):
    async with Api(Connection(url=server.url)) as api:
        since = api.clock.now() - timedelta(minutes=1)
        place = Place(str(tmp_path / "store"))
        people = [
            Registry(api, Store(place), entries.DATASET, by=f"user {n}", task=None)
            for n in range(4)
        ]
        project = unique("Vision / 🐈")
        made = await asyncio.gather(*(p.create(project, "digits -- raw") for p in people))
        assert sorted(e.version for e in made) == ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]
        with pytest.raises(Conflict, match=r"there is a version 1\.0\.2"):
            await people[0].create(project, "digits -- raw", version="1.0.2")
        one = made[0].id
        await asyncio.gather(*(p.change(one, entries.TAGGED, tags=[p._by]) for p in people))
        tagged = {"user 0", "user 1", "user 2", "user 3"}
        assert set((await people[0].get(one)).tags) == tagged
        done = await asyncio.gather(
            *(p.change(one, entries.FINALIZED, about={"by": p._by}) for p in people),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in done) == ["Conflict"] * 3 + ["Entry"]
        (winner,) = [each for each in done if isinstance(each, entries.Entry)]
        assert (await people[1].get(one)).about == winner.about
        # Prefect's card says the same, whoever wrote it last.
        await people[0].change(one, entries.PUBLISHED)
        shown = {e.id: e for e in await index.listed(api, entries.DATASET)}
        assert shown[one] == await people[2].get(one)
        # A change that changes nothing is not told.
        await people[0].change(one, entries.TAGGED, tags=["user 1"])
        other = made[1].id
        await people[0].change(other, entries.DELETED)
        with pytest.raises(NotFound, match="was deleted"):
            await people[0].change(other, entries.PUBLISHED)
        assert other not in {e.id for e in await index.listed(api, entries.DATASET)}
        assert [e.version for e in await people[0].named(project, "digits -- raw")] == sorted(
            (e.version for e in made if e.id != other), reverse=True
        )

        async def told() -> list[events.Event]:
            names = ["clearflow.dataset.*"]
            return [
                e
                async for e in events.happened(api, names, since)
                if e.payload["project"] == project
            ]

        async def all_there() -> bool:
            return len(await told()) >= 4 + 4 + 1 + 1 + 1

        await wait_until_async(all_there, timeout=30, what="all events are stored")
        found = await told()
        counts = {what: sum(e.name.endswith(f".{what}") for e in found) for what in entries.TOLD}
        assert counts == {
            "created": 4,
            "tagged": 4,
            "finalized": 1,
            "published": 1,
            "deleted": 1,
            "untagged": 0,
            "archived": 0,
        }
        published = next(e for e in found if e.name.endswith(".published"))
        assert published.resource == f"clearflow.dataset.{one}"
        assert set(published.payload["tags"]) == tagged
        assert published.payload["version"] == made[0].version
        assert published.payload["status"] == "published"

        # The index is made anew from the truth.
        for entry in shown.values():
            if entry.project == project:
                await index.hide(api, entry)
        await people[0].reindex()
        again = {e.id: e for e in await index.listed(api, entries.DATASET)}
        assert again[one] == shown[one]
        assert json.loads((await people[0].records(one))[0].dump())["project"] == project
