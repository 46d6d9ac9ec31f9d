"""What clearflow costs a program that uses it: the import, and `Task.init`, medians of 30.

`import clearflow` is the difference between an interpreter that imports it and `Task` and one that
does nothing, in turns. `Task.init` is timed inside of a program on this machine, in a working copy
with a change that nobody has committed: until the program's own code goes on, the copy is taken,
the task stands on the server, and its companion runs.

Bars: 50 ms and 0.6 s; stretch 30 ms and 0.3 s.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import Bench, Report, Row, bench, summary

_INIT = """
import time
started = time.perf_counter()
from clearflow import Task
task = Task.init("bench", "init")
print(time.perf_counter() - started)
"""


def run(count: int = 30) -> Report:
    with bench() as made:
        imports = _imports(made, count)
        begins = _begins(made, count)
    imported, begun = summary(imports), summary(begins)
    rows = [
        Row(
            "`from clearflow import Task`, median",
            f"{imported['median'] * 1000:.0f} ms",
            "≤ 50 ms",
            imported["median"] <= 0.05,
            "30 ms",
        ),
        Row(
            "`Task.init` until the program goes on, its import included, median",
            f"{begun['median']:.2f} s (p95 {begun['p95']:.2f} s, n = {count})",
            "≤ 0.6 s",
            begun["median"] <= 0.6,
            "0.3 s",
        ),
    ]
    return Report("client", rows, {"import": imported, "init": begun})


def _imports(made: Bench, count: int) -> list[float]:
    env = made.env()
    found = []
    for number in range(-1, count):
        nothing = _taken("pass", env)
        with_it = _taken("from clearflow import Task", env)
        if number >= 0:
            found.append(with_it - nothing)
    return found


def _taken(code: str, env: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    return time.perf_counter() - started


def _begins(made: Bench, count: int) -> list[float]:
    root = made.folder / "project"
    _project(root)
    found = []
    for number in range(-1, count):
        done = subprocess.run(
            [sys.executable, "train.py"],
            cwd=root,
            env={**os.environ, **made.env()},
            check=True,
            capture_output=True,
            text=True,
        )
        if number >= 0:
            found.append(float(done.stdout))
    return found


def _project(root: Path) -> None:
    root.mkdir()
    for number in range(100):
        (root / f"module_{number}.py").write_text(f"NUMBER = {number}\n" * 50)
    (root / "train.py").write_text("")
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=root, check=True)
    (root / "train.py").write_text(_INIT)
