"""Flows and deployments: what a task can be started from again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from clearflow._prefect.http import Api
from clearflow.errors import NotFound

_PAGE = 200  # the server's limit


async def read(api: Api, deployment_id: str) -> dict[str, Any]:
    """A deployment by id. Raises NotFound."""
    return dict(await api.get(f"/deployments/{deployment_id}"))


async def by_name(api: Api, flow: str, name: str) -> dict[str, Any]:
    """A deployment by the stored names of its flow and itself. Raises NotFound."""
    path = f"/deployments/name/{quote(flow, safe='')}/{quote(name, safe='')}"
    return dict(await api.get(path))


async def flow_names(api: Api, flow_ids: Sequence[str]) -> dict[str, str]:
    """The names of flows by id."""
    names: dict[str, str] = {}
    wanted = sorted(set(flow_ids))
    for start in range(0, len(wanted), 200):
        part = wanted[start : start + 200]
        page = await api.post(
            "/flows/filter", {"flows": {"id": {"any_": part}}, "limit": len(part)}
        )
        names.update({f["id"]: f["name"] for f in page})
    return names


async def ensure(
    api: Api,
    *,
    flow: str,
    name: str,
    pool: str,
    queue: str | None,
    entrypoint: str,
    path: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    parameters_schema: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    labels: Mapping[str, Any] | None = None,
    description: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The deployment of this flow and name, made or brought up to date."""
    flow_id = (await api.post("/flows/", {"name": flow}))["id"]
    body: dict[str, Any] = {
        "name": name,
        "flow_id": flow_id,
        "work_pool_name": pool,
        "work_queue_name": queue,
        "entrypoint": entrypoint,
        "path": path,
        "parameters": dict(parameters or {}),
        "parameter_openapi_schema": dict(parameters_schema or {"type": "object", "properties": {}}),
        "enforce_parameter_schema": False,
        "tags": list(tags),
        "labels": dict(labels or {}),
        "description": description,
        "job_variables": dict(job_variables or {}),
    }
    # Creating one that exists updates it.
    return dict(await api.post("/deployments/", body))


async def find(api: Api, tag_prefix: str) -> AsyncIterator[dict[str, Any]]:
    """The deployments with a tag that begins so."""
    seen = 0
    while True:
        page = await api.post(
            "/deployments/filter", {"limit": _PAGE, "offset": seen, "sort": "NAME_ASC"}
        )
        for item in page:
            if any(tag.startswith(tag_prefix) for tag in item["tags"]):
                yield item
        if len(page) < _PAGE:
            return
        seen += len(page)


async def delete(api: Api, deployment_id: str) -> None:
    """Delete a deployment, and with it its runs that wait; one that is gone already is fine."""
    try:
        await api.delete(f"/deployments/{deployment_id}")
    except NotFound:
        return


async def repoint(api: Api, queue_id: str, *, pool: str, queue: str) -> None:
    """Have every deployment of a work queue send its runs to another one, by its stored name."""
    while page := await api.post(
        "/deployments/filter",
        {"work_pool_queues": {"id": {"any_": [queue_id]}}, "limit": 200},
    ):
        for each in page:
            await api.patch(
                f"/deployments/{each['id']}", {"work_pool_name": pool, "work_queue_name": queue}
            )


async def exists(api: Api, deployment_id: str) -> bool:
    try:
        await read(api, deployment_id)
    except NotFound:
        return False
    return True
