"""Prefect artifacts that hold results of a run: curves, pictures, tables.

They have no key, as a task's results are found by the task. What programs read and people do not is
of Prefect's type `result`: its UI shows all artifacts of a run but these, at most 200, and would
bury the pictures under them. Which of the results one is says its metadata.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clearflow._prefect.http import Api
from clearflow.errors import NotFound

HIDDEN, TABLE, MARKDOWN = "result", "table", "markdown"
_KIND = "clearflow"
_PAGE = 200  # the server's limit


@dataclass(frozen=True)
class Artifact:
    """One artifact: `kind` is ours, `type` Prefect's."""

    id: str
    kind: str
    type: str
    data: Any
    about: Mapping[str, str]
    description: str = ""


async def create(
    api: Api,
    run_id: str,
    kind: str,
    type: str,
    data: Any,
    *,
    about: Mapping[str, str] | None = None,
    description: str = "",
) -> str:
    """A new artifact of a run; its id. An answer that is lost may leave two of them."""
    body = {
        "type": type,
        "data": data,
        "description": description,
        "metadata_": {_KIND: kind, **(about or {})},
        "flow_run_id": run_id,
    }
    return str((await api.post("/artifacts/", body))["id"])


async def update(api: Api, id: str, data: Any, description: str | None = None) -> bool:
    """Replace what an artifact holds; False when it is gone."""
    body = {"data": data} | ({} if description is None else {"description": description})
    try:
        await api.patch(f"/artifacts/{id}", body)
    except NotFound:
        return False
    return True


async def read(api: Api, id: str) -> Artifact | None:
    """One artifact; None when it is gone."""
    try:
        return _parse(await api.get(f"/artifacts/{id}"))
    except NotFound:
        return None


async def of(api: Api, run_id: str, *types: str) -> AsyncIterator[Artifact]:
    """All that we keep with a run, of these types of Prefect's, the newest first."""
    where = {"flow_run_id": {"any_": [run_id]}, "type": {"any_": list(types)}}
    async for each in _found(api, where):
        yield each


async def tables(api: Api) -> AsyncIterator[Artifact]:
    """The tables that we keep with all runs there are."""
    async for each in _found(api, {"type": {"any_": [TABLE]}}):
        yield each


async def _found(api: Api, where: Mapping[str, Any]) -> AsyncIterator[Artifact]:
    body = {"artifacts": where, "sort": "CREATED_DESC", "limit": _PAGE}
    seen: set[str] = set()
    offset = 0
    while True:
        page = await api.post("/artifacts/filter", {**body, "offset": offset})
        for item in page:
            # New ones push the others on to the next page.
            if item["id"] not in seen and _KIND in (item.get("metadata_") or {}):
                seen.add(item["id"])
                yield _parse(item)
        if len(page) < _PAGE:
            return
        offset += len(page)


def _parse(item: Mapping[str, Any]) -> Artifact:
    about = dict(item.get("metadata_") or {})
    kind, words = about.pop(_KIND, ""), item.get("description")
    return Artifact(str(item["id"]), kind, item["type"], item["data"], about, words or "")


async def copy(api: Api, source: str, target: str) -> None:
    """Give a run the results of another one, in their order."""
    found = [a async for a in of(api, source, HIDDEN, TABLE, MARKDOWN)]
    for each in reversed(found):
        what = (each.kind, each.type, each.data)
        await create(api, target, *what, about=each.about, description=each.description)


async def delete(api: Api, run_id: str) -> None:
    """Delete the results of a run that is gone: Prefect leaves them."""
    found: Sequence[Artifact] = [a async for a in of(api, run_id, HIDDEN, TABLE, MARKDOWN)]
    for each in found:
        try:
            await api.delete(f"/artifacts/{each.id}")
        except NotFound:
            continue
