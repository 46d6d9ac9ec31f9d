"""Environments: what a warm one adds to a task, and what a cold one costs beside plain uv.

Warm: from the question for an environment that stands to its interpreter, median of 100. Cold:
scikit-learn, LightGBM and pandas into a new environment, in turns with `uv venv` and
`uv pip install` by hand, median of 5; both from the same cache of uv, which has the wheels.

Bars: 150 ms and 1.2 times; stretch 50 ms and 1.1 times.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench import Report, Row, summary
from clearflow.environment import build
from clearflow.environment.recipe import Recipe

_PACKAGES = ("scikit-learn", "lightgbm", "pandas")


def run(count: int = 5) -> Report:
    with tempfile.TemporaryDirectory(prefix="clearflow-") as place:
        folder = Path(place)
        # The cache and the environments are on one file system: uv makes hard links.
        os.environ["UV_CACHE_DIR"] = str(folder / "cache")
        cold, plain = [], []
        for number in range(-1, count):
            seconds = _ours(folder / f"home-{number}")
            beside = _plain(folder / f"plain-{number}")
            if number >= 0:  # the first one downloads
                cold.append(seconds)
                plain.append(beside)
        warm = [_ours(folder / "home-0") for _ in range(100)]
    w, c, p = summary(warm), summary(cold), summary(plain)
    ratio = c["median"] / p["median"]
    rows = [
        Row(
            "an environment that stands adds to a task, median",
            f"{w['median'] * 1000:.1f} ms",
            "≤ 150 ms",
            w["median"] <= 0.15,
            "50 ms",
        ),
        Row(
            "scikit-learn, LightGBM, pandas into a new environment, median",
            f"{ratio:.2f}× ({c['median']:.2f} s)",
            "≤ 1.2×",
            ratio <= 1.2,
            "1.1×",
            f"`uv venv`, `uv pip install` {p['median']:.2f} s",
        ),
    ]
    return Report("environment", rows, {"warm": w, "cold": c, "plain": p})


def _ours(home: Path) -> float:
    recipe = Recipe.of({"requirements": list(_PACKAGES)}, prefect=False)
    assert recipe is not None
    started = time.perf_counter()
    asyncio.run(build.prepare(recipe, home, lambda words: None))
    return time.perf_counter() - started


def _plain(place: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(place)], check=True)
    python = place / "bin" / "python"
    words = ["uv", "pip", "install", "-q", "--python", str(python), *_PACKAGES]
    subprocess.run(words, check=True)
    return time.perf_counter() - started
