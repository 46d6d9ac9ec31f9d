"""A dataset of 10,000 small files and one of a 2 GiB file: in and out, beside `cp -r`.

The store is a folder on the same disk, so that only what clearflow adds is measured: hashing,
packing, a manifest, the server's records. Uploading is `add_files`, `upload` and `finalize`;
downloading is `get_local_copy` on a machine that has nothing of it. In turns, the least of 5 (and
the median): a virtual machine gets memory from its host when it first uses it, which here takes up
to ten times as long as copying into it, and is no program's doing. Before each, as much memory as
it fills is taken and given back, so that there is a round in which each has its memory at hand.
A second version has 1 % of the files, or of the bytes, changed.

Nothing is deleted before the end, for which 35 GB of disk are needed: ext4 looks past every inode
that was freed a moment ago, and that would be most of what a new small file costs.

Bars: 1.5 times `cp -r` for the small files, 1.15 times for the large one; 1.5 % sent. Stretch: 1.3
and 1.1 times.
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench import Report, Row, bench, summary
from clearflow.settings import settings


def run(count: int = 5, files: int = 10_000, mebibytes: int = 2048) -> Report:
    with bench() as made:
        os.environ.update({k: v for k, v in made.env().items() if "PREFECT" in k})
        small, large = made.folder / "small", made.folder / "large"
        chance = random.Random(1)
        for number in range(files):
            file = small / f"{number % 100}" / f"{number}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(chance.randbytes(chance.randint(500, 8000)))
        large.mkdir()
        with (large / "large.bin").open("wb") as target:
            for _ in range(mebibytes):
                target.write(os.urandom(1 << 20))
        found = {
            "small": _measure(small, count, _change_files),
            "large": _measure(large, count, _change_bytes),
        }
    rows = [
        *_rows(f"{files:,} small files", found["small"], 1.5, "1.3×"),
        *_rows(f"one file of {mebibytes / 1024:g} GiB", found["large"], 1.15, "1.1×"),
    ]
    return Report("datasets", rows, found)


def _rows(what: str, found: dict[str, Any], bar: float, stretch: str) -> list[Row]:
    rows = []
    for way in ("upload", "download"):
        ratio = found[way]["min"] / found["cp"]["min"]
        beside = f"`cp -r` {found['cp']['min']:.2f} s (median {found['cp']['median']:.2f} s)"
        measured = f"{found[way]['min']:.2f} s (median {found[way]['median']:.2f} s), {ratio:.2f}×"
        rows.append(Row(f"{what}: {way}", measured, f"{bar}×", ratio <= bar, stretch, beside))
    sent = f"{found['sent']:.2%}"
    rows.append(Row(f"{what}: sent, 1 % changed", sent, "1.5 %", found["sent"] <= 0.015))
    return rows


def _measure(folder: Path, count: int, change: Callable[[Path], None]) -> dict[str, Any]:
    from clearflow import Dataset

    def upload() -> Any:
        dataset = Dataset.create(folder.name, "Benchmarks")
        dataset.add_files(folder)
        dataset.finalize(auto_upload=True)
        return dataset

    size = _bytes(folder)
    times: dict[str, list[float]] = {"cp": [], "upload": [], "download": []}
    for number in range(count):
        home = folder.with_name(f"{folder.name}-home-{number}")
        os.environ["CLEARFLOW_HOME"] = str(home)
        settings.cache_clear()
        command = ["cp", "-r", str(folder), str(folder.with_name(f"{folder.name}-copy-{number}"))]
        _settle(size)
        times["cp"].append(_timed(partial(subprocess.run, command, check=True))[0])
        _settle(size)
        took, made = _timed(upload)
        times["upload"].append(took)
        _settle(size)
        times["download"].append(_timed(made.get_local_copy)[0])
    change(folder)
    before = _bytes(home / "store")
    child = Dataset.create(parent_datasets=[made])
    child.add_files(folder)
    child.finalize(auto_upload=True)
    sent = (_bytes(home / "store") - before) / before
    return {key: summary(values) for key, values in times.items()} | {"sent": sent}


def _change_files(folder: Path) -> None:
    chosen = [file for file in sorted(folder.rglob("*.bin")) if int(file.stem) % 100 == 7]
    for file in chosen:
        file.write_bytes(os.urandom(file.stat().st_size))


def _change_bytes(folder: Path) -> None:
    (file,) = folder.iterdir()
    size = file.stat().st_size
    with file.open("r+b") as target:
        target.seek(size // 3)
        target.write(os.urandom(size // 100))


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _settle(size: int) -> None:
    """The disk has nothing left to write, and the machine has the memory for so many bytes."""
    os.sync()
    with mmap.mmap(-1, size + size // 4) as memory:
        for start in range(0, len(memory), mmap.PAGESIZE):
            memory[start] = 1


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = act()
    return time.perf_counter() - started, found
