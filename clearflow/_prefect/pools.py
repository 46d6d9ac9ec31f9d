"""Work pools, work queues and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound
from clearflow.words.models import Queue, Run, Worker
from clearflow.words.names import stored

TYPE = "clearflow"


def _pool(name: str) -> str:
    return f"/work_pools/{quote(name, safe='')}"


def _queue(pool: str, name: str) -> str:
    return f"{_pool(pool)}/queues/{quote(stored(name), safe='')}"


async def read(api: Api, name: str) -> dict[str, Any]:
    """The work pool. Raises NotFound."""
    try:
        return dict(await api.get(_pool(name)))
    except NotFound:
        raise NotFound(
            f"there is no work pool {name!r}", hint="`clearflow up` and `clearflow init` make it"
        ) from None


async def ensure(api: Api, name: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """The work pool, made if it is not there."""
    try:
        return dict(await api.get(_pool(name)))
    except NotFound:
        pass
    body = {
        "name": name,
        "type": TYPE,
        "description": "Queues and agents of clearflow",
        "base_job_template": dict(template),
    }
    try:
        return dict(await api.post("/work_pools/", body))
    except Conflict:
        return dict(await api.get(_pool(name)))


async def all_of_type(api: Api) -> list[dict[str, Any]]:
    """Every work pool of clearflow's type."""
    pools = await api.post("/work_pools/filter", {"work_pools": {"type": {"any_": [TYPE]}}})
    return list(pools)


async def queues(api: Api, pool: str) -> list[Queue]:
    found: list[Queue] = []
    while True:
        page = await api.post(f"{_pool(pool)}/queues/filter", {"limit": 200, "offset": len(found)})
        found += [Queue.parse(q, pool) for q in page]
        if len(page) < 200:
            return found


async def queue(api: Api, pool: str, name: str) -> Queue:
    """One queue by its true name. Raises NotFound."""
    try:
        return Queue.parse(await api.get(_queue(pool, name)), pool)
    except NotFound:
        raise NotFound(
            f"there is no queue {name!r}", hint="`clearflow queue ls` lists them"
        ) from None


async def create_queue(
    api: Api, pool: str, name: str, *, limit: int | None = None, description: str = ""
) -> Queue:
    """A new queue. Raises Conflict when it exists."""
    body = {"name": stored(name), "description": description, "concurrency_limit": limit}
    return Queue.parse(await api.post(f"{_pool(pool)}/queues", body), pool)


async def ensure_queue(api: Api, pool: str, name: str) -> Queue:
    """The queue, made if it is not there; several may ask for it at once."""
    try:
        return await create_queue(api, pool, name)
    except Conflict:
        return await queue(api, pool, name)


async def change_queue(api: Api, pool: str, name: str, **changes: Any) -> None:
    await api.patch(_queue(pool, name), changes)


async def delete_queue(api: Api, pool: str, name: str) -> None:
    await api.delete(_queue(pool, name))


async def offered(
    api: Api, pool: str, queues: Sequence[str], *, limit: int, before: datetime | None = None
) -> list[Run]:
    """What the server offers agents of these queues, in its order, within its limits.

    Of their states it tells only the ids, and no messages: `Run.state` is without a note.
    """
    body: dict[str, Any] = {"work_queue_names": [stored(q) for q in queues], "limit": limit}
    if before is not None:
        body["scheduled_before"] = before.isoformat()
    answer = await api.post(f"{_pool(pool)}/get_scheduled_flow_runs", body)
    return [_offered(o["flow_run"], o["work_queue_id"]) for o in answer]


def _offered(run: Mapping[str, Any], queue_id: str) -> Run:
    state = {"type": run["state_type"], "name": run["state_name"], "id": run["state_id"]}
    return Run.parse({**run, "work_queue_id": queue_id, "state": state})


async def heartbeat(api: Api, pool: str, name: str, interval: float) -> None:
    body = {"name": name, "heartbeat_interval_seconds": max(1, round(interval))}
    await api.post(f"{_pool(pool)}/workers/heartbeat", body)


async def workers(api: Api, pool: str) -> list[Worker]:
    found: list[Worker] = []
    while True:
        page = await api.post(f"{_pool(pool)}/workers/filter", {"limit": 200, "offset": len(found)})
        found += [Worker.parse(w) for w in page]
        if len(page) < 200:
            return found


async def forget_worker(api: Api, pool: str, name: str) -> None:
    try:
        await api.delete(f"{_pool(pool)}/workers/{quote(name, safe='')}")
    except NotFound:
        return
