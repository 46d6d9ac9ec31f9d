"""What reporting scalars costs the training that reports them, and how soon they can be seen.

A training of 10,000 iterations, each a few milliseconds of one processor, reports five series in
each. Its processor time, all threads, is that of the same loop without reports and of the reports
alone, in turns in one process: a part of a percent is less than two runs of one loop differ by.

Bars: 1 % of the training's processor time; 2 s until a scalar is on the server.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

from benchmarks.bench import Report, Row, bench, summary
from clearflow._prefect.http import Api
from clearflow.tasks import results

_SERIES = 5
_BLOCK = 500

_TRAINING = """
import json, sys, time
from clearflow import Task

iterations, block, series = map(int, sys.argv[1:])
task = Task.init("Benchmarks", "scalars")
logger = task.get_logger()

def step():
    total = 0.0
    for i in range(50_000):
        total += i * 0.5
    return total

worked = reported = 0.0
for start in range(0, iterations, block):
    at = time.process_time()
    for i in range(start, start + block):
        step()
    worked += time.process_time() - at
    at = time.process_time()
    for i in range(start, start + block):
        for n in range(series):
            logger.report_scalar("loss", f"series {n}", value=1.0 / (i + 1 + n), iteration=i)
    logger.flush()
    reported += time.process_time() - at
print(json.dumps({"task": task.id, "worked": worked, "reported": reported}), flush=True)
for line in sys.stdin:
    logger.report_scalar("seen", "at", float(line), int(line))
"""


def run(iterations: int = 10_000, looks: int = 10) -> Report:
    with bench() as made:
        script = made.folder / "training.py"
        script.write_text(_TRAINING)
        words = [sys.executable, str(script), *map(str, (iterations, _BLOCK, _SERIES))]
        process = subprocess.Popen(
            words,
            env=made.env(),
            cwd=made.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        delays = []
        for number in range(looks):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            delays.append(asyncio.run(_seen(made.api(), told["task"], number)))
        process.stdin.close()
        process.wait()
        kept = asyncio.run(_kept(made.api(), told["task"]))
    share = told["reported"] / told["worked"]
    seen = summary(delays)
    each = told["worked"] / iterations * 1000
    points = iterations * _SERIES
    rows = [
        Row(
            f"processor time of reporting {points:,} scalars, iterations of {each:.1f} ms",
            f"{share:.2%}",
            "1 %",
            share <= 0.01,
        ),
        Row(
            "a scalar is reported → it is on the server, median",
            f"{seen['median']:.2f} s",
            "2 s",
            seen["median"] <= 2,
        ),
        Row("scalars on the server at the end", f"{kept:,}", f"{points:,}", kept == points),
    ]
    return Report("scalars", rows, {**told, "share": share, "seen": seen})


async def _seen(api: Api, task: str, number: int) -> float:
    """Seconds until it can be read. Reading all of them takes a part of it."""
    began = time.monotonic()
    async with api:
        while True:
            curve = (await results.curves(api, task)).get(("seen", "at"))
            if curve is not None and curve.iterations[-1] >= number:
                return time.monotonic() - began
            await asyncio.sleep(0.05)


async def _kept(api: Api, task: str) -> int:
    async with api:
        found = await results.curves(api, task)
    return sum(len(curve.values) for (title, _), curve in found.items() if title == "loss")
