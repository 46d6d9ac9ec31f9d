"""The end of a step → the first line of the next; 20 trivial steps in a row beside stock Prefect.

A pipeline of function steps, its controller and its steps on one agent, their environment warm. A
step says when its first line runs; the end of the one before it is the time of its last line, so
that recording the end is in it. Beside it: a program that calls `run_deployment` in a row, on a
stock `process` worker at its defaults; six times, as it takes its time, and the rest in proportion.

Bars: 1 s (stretch 0.5 s); 8 times faster than stock.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from benchmarks.bench import (
    Bench,
    Report,
    Row,
    bench,
    deployment,
    ended,
    queue,
    stock_pool,
    summary,
)
from clearflow._prefect import runs
from clearflow._prefect.http import Api

_PROGRAM = """
# /// script
# dependencies = []
# ///
import sys, time
from clearflow import Pipeline

def step(before, file):
    began = time.time()
    with open(file, "a") as record:
        record.write(f"{began!r} {time.time()!r}\\n")
    return before + 1

if __name__ == "__main__":
    pipe = Pipeline("row", "Benchmarks")
    pipe.set_default_execution_queue("steps")
    for number in range(int(sys.argv[1])):
        before = "${s%d.artifacts.return_object}" % (number - 1) if number else 0
        pipe.add_function_step(f"s{number}", step, {"before": before, "file": sys.argv[2]})
    pipe.start("controllers")
"""


_STOCK = 6


def run(count: int = 20) -> Report:
    with bench() as made:
        ours, stock = asyncio.run(_measure(made, count))
    gaps = summary([began - end for (_, end), (began, _) in pairwise(ours)])
    whole = ours[-1][1] - ours[0][0]
    rows = [
        Row(
            "end of a step → first line of the next, median",
            f"{gaps['median']:.2f} s (p95 {gaps['p95']:.2f} s, n = {count - 1})",
            "≤ 1 s",
            gaps["median"] <= 1.0,
            "0.5 s",
        ),
        Row(
            f"{count} trivial steps in a row, beside `run_deployment` on a stock worker",
            f"{stock / whole:.1f}×",
            "≥ 8×",
            stock >= 8 * whole,
            beside=f"{whole:.1f} s and {stock:.1f} s (of {min(count, _STOCK)} runs)",
        ),
    ]
    return Report(
        "pipelines", rows, {"gaps": gaps, "seconds": {"clearflow": whole, "stock": stock}}
    )


async def _measure(made: Bench, count: int) -> tuple[list[tuple[float, float]], float]:
    async with made.api() as api:
        for name in ("controllers", "steps"):
            await queue(api, name)
            await asyncio.to_thread(made.agent, name, name)
        root = made.folder / "project"
        root.mkdir()
        (root / "row.py").write_text(_PROGRAM)
        await _pipeline(made, api, root, 2, made.folder / "warm")
        record = made.folder / "record"
        await _pipeline(made, api, root, count, record)
        ours = [tuple(map(float, line.split())) for line in record.read_text().splitlines()]
        await stock_pool(api, "stock")
        await asyncio.to_thread(lambda: made.stock_worker("stock"))
        few = min(count, _STOCK)
        stock = await _stock(made, api, few) * count / few
    return [(began, end) for began, end in ours], stock


async def _pipeline(made: Bench, api: Api, root: Path, count: int, record: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "row.py", str(count), str(record)],
        cwd=root,
        env=made.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    task = done.stderr.partition("clearflow: task ")[2][:36]
    await ended(api, (await runs.resolve(api, task)).id)


async def _stock(made: Bench, api: Api, count: int) -> float:
    """Seconds for as many runs of a deployment, each waited for as `run_deployment` does."""
    trivial = await deployment(api, "first_line", "stock")
    program = (
        "import sys, time\nfrom prefect.deployments import run_deployment\n"
        "began = time.monotonic()\n"
        "for n in range(int(sys.argv[2])):\n"
        "    run_deployment(sys.argv[1], parameters={'stamp': f'{sys.argv[3]}-{n}'})\n"
        "print(time.monotonic() - began)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, trivial["id"], str(count), str(made.folder / "stock")],
        env=made.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])
