"""Log lines of runs: send and read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clearflow import clock
from clearflow._prefect.http import Api

BATCH = 500
LONGEST = 25_000  # characters: what Prefect Cloud takes in one line


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a run's console or log."""

    message: str
    at: datetime
    level: int = 20
    logger: str = "console"
    task_run_id: str | None = None


async def send(api: Api, run_id: str, lines: Sequence[Line]) -> None:
    """Add lines to a run's log, at most BATCH of them."""
    body: list[dict[str, Any]] = []
    for line in lines:
        item: dict[str, Any] = {
            "name": line.logger,
            "level": line.level,
            "message": line.message[:LONGEST],
            "timestamp": line.at.isoformat(),
            "flow_run_id": run_id,
        }
        if line.task_run_id:
            item["task_run_id"] = line.task_run_id
        body.append(item)
    await api.post("/logs/", body)


async def read(api: Api, run_ids: Sequence[str], *, skip: int = 0) -> AsyncIterator[Line]:
    """The lines of these runs in order of time, without the first `skip`."""
    offset = skip
    while True:
        page = await api.post(
            "/logs/filter",
            {
                "logs": {"flow_run_id": {"any_": list(run_ids)}},
                "sort": "TIMESTAMP_ASC",
                "limit": 200,
                "offset": offset,
            },
        )
        for item in page:
            yield Line(
                message=item["message"],
                at=clock.parse(item["timestamp"]),
                level=item["level"],
                logger=item["name"],
                task_run_id=item.get("task_run_id"),
            )
        if len(page) < 200:
            return
        offset += len(page)


async def copy(api: Api, source: str, target: str) -> None:
    """Give a run the lines of another one."""
    batch: list[Line] = []
    async for line in read(api, [source]):
        batch.append(line)
        if len(batch) == BATCH:
            await send(api, target, batch)
            batch = []
    if batch:
        await send(api, target, batch)
