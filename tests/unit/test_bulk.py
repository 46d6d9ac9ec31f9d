"""Runs that are made at the same time are made in one request, each once."""

from __future__ import annotations

import asyncio
from typing import Any

from clearflow._prefect import bulk, runs
from clearflow._prefect.http import Api
from clearflow.errors import Refused
from clearflow.words import lifecycle
from clearflow.words.models import Run
from clearflow.words.notes import Note

_WRITE = lifecycle.queued(Note("queued by a test"))


class Server(Api):
    """Makes runs of one deployment; is locked at the moments that it is told."""

    def __init__(self, *locked: int) -> None:
        self.locked = list(locked)
        self.made: dict[str, dict[str, Any]] = {}
        self.requests_of: list[int] = []
        self.reads = 0
        self.queues: set[str | None] = set()

    async def post(self, path: str, body: Any = None) -> Any:
        if path == "/flow_runs/filter":
            self.reads += 1
            wanted = body["flow_runs"]["id"]["any_"]
            return [{"id": i, "name": i, "state": None} for i in wanted if i in self.made]
        if path == "/flow_runs/":
            labels = {"prefect.deployment.id": "d"}
            return {"id": "by itself", "name": "", "state": None, "labels": labels}
        self.requests_of.append(len(body))
        self.queues = {each.get("work_queue_name") for each in body}
        at = self.locked.pop(0) if self.locked else None
        results: list[dict[str, Any]] = []
        for number, each in enumerate(body):
            if each.get("name") == "bad":
                results.append({"status": "FAILED", "error": "no such variable"})
            elif at is not None and number >= at:
                results.append({"status": "FAILED", "error": "database is locked"})
            else:
                results.append({"status": "CREATED", "flow_run_id": f"r-{each['idempotency_key']}"})
        if at is None:  # else nothing is committed
            self.made |= {r["flow_run_id"]: r for r in results if "flow_run_id" in r}
        return {"results": results}


async def _create(api: Api, key: str, name: str = "good") -> Run:
    of = runs.like(Run("r", "", None, flow_id="f", deployment_id="d", pool="p", queue="q"))
    return await runs.create(api, of, write=_WRITE, name=name, idempotency_key=key, queue="cpu")


async def _all(api: Api, *keys: str, fresh: bool = False) -> list[Run]:
    with bulk.together(api, fresh=fresh):
        return await asyncio.gather(*(_create(api, key) for key in keys))


async def test_many_are_few_requests_and_each_gets_its_own() -> None:
    api = Server()
    keys = [str(n) for n in range(bulk.WIDTH + 10)]
    assert [run.id for run in await _all(api, *keys)] == [f"r-{key}" for key in keys]
    assert api.requests_of == [bulk.WIDTH, 10]


async def test_a_locked_database_forgets_those_before_so_all_are_said_again() -> None:
    api = Server(2, 0)
    assert [run.id for run in await _all(api, "a", "b", "c")] == ["r-a", "r-b", "r-c"]
    assert api.requests_of == [3, 3, 3]


async def test_new_ones_are_as_they_were_said_and_are_not_read_again() -> None:
    api = Server(1)
    first, second = await _all(api, "a", "b", fresh=True)
    assert (first.id, second.id) == ("r-a", "r-b")
    assert (first.name, first.queue, first.pool, first.deployment_id) == ("good", "cpu", "p", "d")
    assert first.state is not None
    assert first.state.note.text == "queued by a test"
    assert api.reads == 0


async def test_beside_one_that_cannot_be_made_new_ones_are_read_all_the_same() -> None:
    api = Server()
    with bulk.together(api, fresh=True):
        good, _ = await asyncio.gather(
            _create(api, "a"), _create(api, "b", "bad"), return_exceptions=True
        )
    assert isinstance(good, Run)
    assert api.reads == 1


async def test_the_same_key_twice_is_one_run() -> None:
    first, second = await _all(Server(), "a", "a")
    assert first.id == second.id


async def test_one_that_cannot_be_made_keeps_no_other_from_it() -> None:
    api = Server()
    with bulk.together(api):
        good, bad = await asyncio.gather(
            _create(api, "a"), _create(api, "b", "bad"), return_exceptions=True
        )
    assert isinstance(good, Run)
    assert isinstance(bad, Refused)
    assert "no such variable" in str(bad)


async def test_outside_each_is_made_by_itself() -> None:
    assert (await _create(Server(), "a")).id == "by itself"


async def test_a_copy_goes_where_the_task_is_and_not_to_the_deployments_own_queue() -> None:
    api = Server()
    of = runs.like(Run("r", "", None, flow_id="f", deployment_id="d", pool="p", queue="gpu"))
    with bulk.together(api):
        await runs.create(api, of, write=_WRITE, name="a", idempotency_key="a")
        assert api.queues == {"gpu"}
        await runs.create(api, of, write=_WRITE, name="b", idempotency_key="b", queue="gpu")
        assert api.queues == {"gpu"}
        whole = {**of, "name": "train", "entrypoint": "train.py"}
        del whole["like"]
        await runs.create(api, whole, write=_WRITE, name="c", idempotency_key="c", queue="gpu")
        assert api.queues == {None}
