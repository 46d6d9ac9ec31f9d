"""What keeps datasets well: broken objects are mended, old copies go, nothing that is in use."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clearflow.client import dataset_files
from clearflow.datasets import cache, fetching, mending
from clearflow.datasets.progress import Progress
from clearflow.datasets.sending import Known
from clearflow.settings import settings
from clearflow.store import Store
from tests.unit.test_datasets import LARGE, by_path, make, read, send
from tests.unit.test_store import s3, store

__all__ = ["s3", "store"]


async def test_what_is_broken_is_put_there_again(store: Store, tmp_path: Path):
    contents = {f"{n}": os.urandom(2000) for n in range(20)} | {"big": os.urandom(LARGE)}
    top = make(tmp_path / "here", contents)
    files = by_path(await send(store, top))
    pack, part = files["3"].objects[0], files["big"].objects[1]
    store.replace(pack, b"?" * 40_000)
    await store.delete([part])
    bad = await fetching.broken(store, files, Progress())
    assert set(bad) == set(contents)
    # A folder that lacks one of them does not make the pack whole.
    (top / "7").rename(tmp_path / "7")
    assert await mending.mend(store, files, bad, top) == ["big"]
    (tmp_path / "7").rename(top / "7")
    assert await mending.mend(store, files, bad, top) == sorted(contents)
    assert await fetching.broken(store, files, Progress()) == {}


async def test_what_a_parent_has_lost_is_sent_again(store: Store, tmp_path: Path):
    top = make(tmp_path / "here", {"small": b"small", "big": os.urandom(LARGE)})
    known = Known()
    known.add(files := by_path(await send(store, top)))
    await store.delete({each for file in files.values() for each in file.objects})
    again = by_path(await send(store, top, known))
    await fetching.fetch(store, again, tmp_path / "there", Progress())
    assert read(tmp_path / "there") == read(top)


async def test_what_the_kernel_does_not_copy_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    top = make(tmp_path / "here", {"big": os.urandom(LARGE), "small": b"small"})
    files = by_path(await send(store, top))

    def refuses(*_: int) -> int:
        raise OSError("another file system")

    monkeypatch.setattr(os, "copy_file_range", refuses)
    assert by_path(await send(store, top)) == files
    await fetching.fetch(store, files, tmp_path / "there", Progress())
    assert read(tmp_path / "there") == read(top)
    if store.local is not None:
        assert list(store.local.rglob("*.partial")) == []


async def test_what_was_left_half_written_goes(tmp_path: Path, store: Store):
    if store.local is None:
        return
    digest = await store.put_bytes(b"content")
    old, new = (store.local / "objects" / f"{each}.1.partial" for each in ("old", "new"))
    for each in (old, new):
        each.write_bytes(b"half")
    os.utime(old, (1, 1))
    await store.tidy(3600)
    assert (old.exists(), new.exists()) == (False, True)
    assert await store.older([digest], 3600) == {}
    assert await store.older([digest], -60) == {digest: 7}


@pytest.fixture
def kept(clearflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLEARFLOW_DATASET_CACHE", "2500")
    settings.cache_clear()
    return cache.top()


USES = """
import asyncio, sys
from pathlib import Path
from clearflow.datasets import cache
async def main():
    async with cache.made(Path(sys.argv[1])) as there:
        print(there, flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


async def hand_out(*folders: Path) -> None:
    for folder in folders:
        async with cache.made(folder) as there:
            assert not there
            folder.mkdir()
            (folder / "file").write_bytes(b"x" * 1000)


def test_the_least_recently_used_copy_goes_and_none_in_use(kept: Path):
    names = ("new", "old", "used")
    asyncio.run(hand_out(*(kept / name for name in names)))
    # Versions share a file, which takes its room once.
    os.link(kept / "new" / "file", kept / "old" / "twin")
    for age, name in enumerate(names):
        os.utime(kept / name, (time.time() - age * 100,) * 2)
    (kept / "left.partial").mkdir()
    os.utime(kept / "left.partial", (1, 1))
    assert cache.tidy() == ["left.partial"], "this process uses all of them"
    for held in cache._held.values():
        os.close(held)
    cache._held.clear()
    other = [sys.executable, "-c", USES, str(kept / "used")]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        os.utime(kept / "used", (1, 1))
        assert cache.tidy() == ["old"]
        process.communicate()
    assert cache.tidy() == []
    settings.cache_clear()


def test_what_changes_nothing_is_said_once(capsys: pytest.CaptureFixture[str]):
    dataset_files._told.clear()
    for _ in range(2):
        dataset_files.ignored(compression="zip", chunk_size=5, output_url=None)
    said = capsys.readouterr().err.splitlines()
    assert said == ["clearflow: compression, chunk_size changes nothing here: see help()"]
