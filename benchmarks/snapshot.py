"""A working copy of 5,000 files with a binary change of 20 MB: taken, and made again elsewhere.

Medians of 10. Taken: the time in which `Task.init` or `clearflow task run` has the copy as it
stands. Made again: from a mirror that has the last commit already, as an agent does for the second
task of a repository. Beside it, in turns: `git stash create`, which leaves out new files, and a
plain copy of the folder. Nothing is deleted before the end: ext4 looks past every inode that was
freed a moment ago, and that would be most of what a new file costs.

Bars: 3 s each; stretch 1.5 s and 1 s.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.bench import Report, Row, summary
from clearflow.capture import reproduce, snapshot
from tests.support.git import Laptop, git, git_daemon

T = TypeVar("T")


def run(count: int = 10, files: int = 5000, megabytes: int = 20) -> Report:
    with tempfile.TemporaryDirectory(prefix="clearflow-") as place:
        folder = Path(place)
        remotes = folder / "remotes"
        remotes.mkdir()
        with git_daemon(remotes) as address:
            root = _project(folder, remotes, address, files)
            times = _measure(root, folder, count, megabytes)
    t, m, s, c = map(summary, times)
    rows = [
        Row(
            f"{files:,} files, {megabytes} MB changed: taken, median",
            f"{t['median']:.2f} s (p95 {t['p95']:.2f} s)",
            "≤ 3 s",
            t["median"] <= 3,
            "1.5 s",
            f"`git stash create` {s['median']:.2f} s",
        ),
        Row(
            "the same: made again from a warm mirror, median",
            f"{m['median']:.2f} s (p95 {m['p95']:.2f} s)",
            "≤ 3 s",
            m["median"] <= 3,
            "1 s",
            f"a copy of the folder {c['median']:.2f} s",
        ),
    ]
    return Report("snapshot", rows, {"taken": t, "made": m, "stash": s, "copy": c})


def _measure(root: Path, folder: Path, count: int, megabytes: int) -> list[list[float]]:
    """Seconds of: the copy taken, made again, `git stash create`, a copy of the folder."""
    found: list[list[float]] = [[], [], [], []]
    for number in range(-1, count):
        # A change of its own each time: nothing of it is anywhere yet.
        (root / "weights.bin").write_bytes(os.urandom(megabytes << 20))
        place = folder / f"round-{number}"
        (place / "store").mkdir(parents=True)
        taken, snap = _timed(partial(snapshot.take, root, place / "store"))
        acts = (
            partial(reproduce.reproduce, snap.parts, folder / "home", place / "code"),
            partial(git, root, "stash", "create", "-q"),
            partial(shutil.copytree, root, place / "copy"),
        )
        others = [_timed(act)[0] for act in acts]
        if number >= 0:  # the first one fetches the mirror
            for values, seconds in zip(found, (taken, *others), strict=True):
                values.append(seconds)
    return found


def _timed(act: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    found = act()
    return time.perf_counter() - started, found


def _project(folder: Path, remotes: Path, address: str, files: int) -> Path:
    """A working copy whose commit the remote has."""
    laptop = Laptop(folder, remotes, address)
    for number in range(files):
        text = f"NUMBER = {number}\n" * 40
        laptop.write(f"package_{number % 50}/module_{number}.py", text.encode())
    laptop.write("weights.bin", b"\0" * 1000)
    laptop.save()
    laptop.push()
    return laptop.root
