"""How many trivial flows per second go through one slot.

All of them wait before the first is taken. The rate is taken between the first lines of the first
and the last flow, so the time until the first is left out. Beside it, in the same run, Prefect's
`process` worker with `--limit 1` at its defaults; it needs ten seconds for each, so it gets fewer.

Bars: 2.5 per second (stretch 5), and 10 times as many as stock.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import (
    POOL,
    Bench,
    Report,
    Row,
    bench,
    bulk,
    deployment,
    queue,
    stock_pool,
    until,
)
from clearflow._prefect.http import Api

STOCK = "stock"


def run(count: int = 50, stock_count: int = 8) -> Report:
    with bench() as made:
        ours, stock = asyncio.run(_measure(made, count, stock_count))
    rows = [
        Row(
            f"{count} trivial flows through one slot",
            f"{ours:.1f} per s",
            "≥ 2.5 per s",
            ours >= 2.5,
            "5 per s",
        )
    ]
    if stock:
        rows.append(
            Row(
                "the same, stock `process` worker with `--limit 1`",
                f"{ours / stock:.0f}×",
                "≥ 10×",
                ours >= 10 * stock,
                beside=f"{stock:.2f} per s ({stock_count} flows)",
            )
        )
    return Report("throughput", rows, {"ours": ours, "stock": stock})


async def _measure(made: Bench, count: int, stock_count: int) -> tuple[float, float]:
    async with made.api() as api:
        await queue(api, "one")
        ours = await deployment(api, "first_line", POOL, "one")
        await asyncio.to_thread(made.agent, "one")
        rate = await _rate(api, made.folder / "ours", ours, count, "Queued")
        if not stock_count:
            return rate, 0.0
        await stock_pool(api, STOCK)
        theirs = await deployment(api, "first_line", STOCK)
        await asyncio.to_thread(lambda: made.stock_worker(STOCK, limit=1))
        return rate, await _rate(api, made.folder / "stock", theirs, stock_count, "Scheduled")


async def _rate(api: Api, folder: Path, of: Mapping[str, Any], count: int, state: str) -> float:
    os.mkdir(folder)
    body: list[dict[str, Any]] = [
        {
            "state": {"type": "SCHEDULED", "name": state},
            "parameters": {"stamp": str(folder / str(number))},
        }
        for number in range(count)
    ]
    await bulk(api, of, body)

    def stamps() -> list[float]:
        texts = [file.read_text() for file in folder.iterdir()]
        found = [float(text) for text in texts if text]
        return found if len(found) == count else []

    found: list[float] = await until(
        stamps, timeout=60 + 20 * count, every=0.1, what="all flows to run"
    )
    return (count - 1) / (max(found) - min(found))
