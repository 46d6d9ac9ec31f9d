"""From enqueue to the first line of a plain script, its environment warm, median of 30 runs each.

The clock starts before the client's request that makes the run, and stops in the script's first
line. The script is in a git repository of this machine's, has a change that nobody has committed,
and needs an environment of its own, which stands already. Beside it, in turns: the interpreter of
that very environment started by hand on the same file, which is what nobody can be faster than.

Bar: 0.5 s; stretch 0.25 s.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.bench import POOL, Bench, Report, Row, bench, ended, queue, summary, until
from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.tasks import packing, script
from clearflow.tasks.packing import Order, Packed
from clearflow.words import lifecycle, scripts
from clearflow.words.notes import Note

_PROGRAM = """
import sys, time
open(sys.argv[1], "w").write(repr(time.time()) + " " + sys.executable)
"""
_HEADER = '# /// script\n# dependencies = ["six"]\n# ///\n'


def run(count: int = 30) -> Report:
    with bench() as made:
        ours, bare = asyncio.run(_measure(made, count))
    found, beside = summary(ours), summary(bare)
    row = Row(
        "enqueue → first line of a plain script, environment warm, median",
        f"{found['median']:.2f} s (p95 {found['p95']:.2f} s, n = {count})",
        "≤ 0.5 s",
        found["median"] <= 0.5,
        "0.25 s",
        f"its interpreter alone {beside['median']:.2f} s",
    )
    return Report("script_start", [row], {"clearflow": found, "interpreter": beside})


async def _measure(made: Bench, count: int) -> tuple[list[float], list[float]]:
    root = made.folder / "project"
    file = _project(root)
    ours: list[float] = []
    bare: list[float] = []
    async with made.api() as api:
        await queue(api, "scripts")
        await asyncio.to_thread(made.agent, "scripts")
        packed = await asyncio.to_thread(packing.pack, Order(file, "scripts"), made.folder / "sent")
        template, job = await _template(api, packed)
        for number in range(-1, count):
            await asyncio.sleep(random.uniform(0.3, 1.3))
            stamp = made.folder / f"{number}.stamp"
            started = time.time()
            made_run = await runs.create(
                api,
                template,
                write=lifecycle.queued(Note("queued by a benchmark")),
                parameters={scripts.ARGUMENTS: [str(stamp)]},
                job_variables=job,
            )
            text = await until(lambda at=stamp: at.exists() and at.read_text(), what="the script")
            await ended(api, made_run.id)
            moment, python = text.split()
            alone = await asyncio.to_thread(_alone, python, file, made.folder / f"{number}.bare")
            if number >= 0:  # the first one builds the environment
                ours.append(float(moment) - started)
                bare.append(alone)
    return ours, bare


def _project(root: Path) -> Path:
    root.mkdir()
    file = root / "train.py"
    file.write_text("print('as it was committed')\n")
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=root, check=True)
    file.write_text(_HEADER + _PROGRAM)
    return file


async def _template(api: Api, packed: Packed) -> tuple[dict[str, Any], dict[str, object]]:
    job = await script.send(api, packed, progress=lambda done, total: None)
    where = {"pool": POOL, "queue": "scripts"}
    return await script.template(api, "bench", "script", job, **where), job


def _alone(python: str, file: Path, stamp: Path) -> float:
    started = time.time()
    subprocess.run([python, str(file), str(stamp)], check=True)
    return float(stamp.read_text().split()[0]) - started
