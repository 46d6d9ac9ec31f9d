"""Log lines of runs: send and read."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clearflow import clock
from clearflow._prefect.http import Api

BATCH = 500
PAGE = 200  # the server's limit
LONGEST = 25_000  # characters: what Prefect Cloud takes in one line


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a run's console or log; `run_id` says of which, where it is a subflow's."""

    message: str
    at: datetime
    level: int = 20
    logger: str = "console"
    task_run_id: str | None = None
    id: str = ""
    run_id: str | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Line:
        return cls(
            message=data["message"],
            at=clock.parse(data["timestamp"]),
            level=data["level"],
            logger=data["name"],
            task_run_id=data.get("task_run_id"),
            id=str(data.get("id") or ""),
        )


async def send(api: Api, run_id: str, lines: Sequence[Line]) -> None:
    """Add lines to a run's log, at most BATCH of them."""
    body: list[dict[str, Any]] = []
    for line in lines:
        item: dict[str, Any] = {
            "name": line.logger,
            "level": line.level,
            "message": line.message[:LONGEST],
            "timestamp": line.at.isoformat(),
            "flow_run_id": line.run_id or run_id,
        }
        if line.task_run_id:
            item["task_run_id"] = line.task_run_id
        body.append(item)
    await api.post("/logs/", body)


async def read(
    api: Api, run_ids: Sequence[str], *, skip: int = 0, since: datetime | None = None
) -> AsyncIterator[Line]:
    """The lines of these runs in order of time, from `since` on, without the first `skip`."""
    offset = skip
    while True:
        page = await _page(api, run_ids, since, "TIMESTAMP_ASC", PAGE, offset)
        for item in page:
            yield Line.parse(item)
        if len(page) < PAGE:
            return
        offset += len(page)


async def last(api: Api, run_ids: Sequence[str], count: int) -> list[Line]:
    """The last lines of these runs, in order of time."""
    found: list[Line] = []
    while len(found) < count:
        size = min(PAGE, count - len(found))
        page = await _page(api, run_ids, None, "TIMESTAMP_DESC", size, len(found))
        found += [Line.parse(item) for item in page]
        if len(page) < size:
            break
    return found[::-1]


async def _page(
    api: Api,
    run_ids: Sequence[str],
    since: datetime | None,
    sort: str,
    limit: int,
    offset: int,
) -> list[dict[str, Any]]:
    where: dict[str, Any] = {"flow_run_id": {"any_": list(run_ids)}}
    if since is not None:
        where["timestamp"] = {"after_": since.isoformat()}
    body = {"logs": where, "sort": sort, "limit": limit, "offset": offset}
    return list(await api.post("/logs/filter", body))


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


def send_to(handler: Callable[[dict[str, Any]], None]) -> None:
    """Send the log records of runs to `handler` instead of the server and the terminal.

    The supervisor ships them between the lines of the console, in order, and keeps them while
    the server is away. The records are those that Prefect's own handler would send.
    """
    from prefect.logging.handlers import APILogHandler

    class ToSupervisor(APILogHandler):
        def emit(self, record: logging.LogRecord) -> None:
            if not getattr(record, "send_to_api", True):
                return
            try:
                handler(self.prepare(record))
            except Exception:
                self.handleError(record)

        def handleError(self, record: logging.LogRecord) -> None:
            # Outside a run there is nobody to send it for: not worth a traceback.
            return

        def flush(self) -> None:
            return

    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.extra"):
        logger = logging.getLogger(name)
        ours = ToSupervisor()
        for old in logger.handlers:
            ours.setFormatter(old.formatter)
        logger.handlers = [ours]
        logger.propagate = False
