"""Prefect variables: small records that any machine may read."""

from __future__ import annotations

from typing import Any

from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound


async def read(api: Api, name: str) -> Any:
    """The value, or None when there is no such variable."""
    try:
        return (await api.get(f"/variables/name/{name}"))["value"]
    except NotFound:
        return None


async def write(
    api: Api, name: str, value: Any, tags: tuple[str, ...] = ("clearflow",), *, new: bool = False
) -> None:
    """Make the variable have this value; `new` says that it is probably not there yet."""
    if not new:
        try:
            await api.patch(f"/variables/name/{name}", {"value": value})
            return
        except NotFound:
            pass
    try:
        await api.post("/variables/", {"name": name, "value": value, "tags": list(tags)})
    except Conflict:
        await api.patch(f"/variables/name/{name}", {"value": value})


async def delete(api: Api, name: str) -> None:
    try:
        await api.delete(f"/variables/name/{name}")
    except NotFound:
        return


async def starting_with(api: Api, prefix: str) -> dict[str, Any]:
    """All variables whose name starts with the prefix."""
    found: dict[str, Any] = {}
    offset = 0
    while True:
        page = await api.post(
            "/variables/filter",
            {"variables": {"name": {"like_": f"{prefix}%"}}, "limit": 200, "offset": offset},
        )
        # `_` stands for any character in the server's LIKE.
        found.update({v["name"]: v["value"] for v in page if v["name"].startswith(prefix)})
        if len(page) < 200:
            return found
        offset += len(page)
