"""Files into the store and out of it again, over a folder and over S3; manifests; drafts."""

import contextlib
import os
import random
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearflow.datasets import drafts, fetching, sending
from clearflow.datasets.progress import Progress
from clearflow.datasets.scan import Source, scan
from clearflow.datasets.sending import Known, Sent
from clearflow.errors import NotFound, Refused, ServerError, Usage
from clearflow.store import Content, Store, hashing
from clearflow.words import manifest
from clearflow.words.manifest import SMALL, File, Manifest
from clearflow.words.places import Place
from tests.unit.test_store import s3, store

__all__ = ["s3", "store"]

LARGE = 9_000_000


def make(top: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        file = top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return top


def read(top: Path) -> dict[str, bytes]:
    return {f.relative_to(top).as_posix(): f.read_bytes() for f in top.rglob("*") if f.is_file()}


def by_path(sent: Sent) -> dict[str, File]:
    return {file.path: file for file in sent.files}


async def send(store: Store, top: Path, known: Known | None = None) -> Sent:
    return await sending.send(store, scan(str(top)), known or Known(), Progress())


async def test_files_of_all_sizes_go_there_and_back(store: Store, tmp_path: Path):
    contents = {f"many/{n % 7}/{n}.txt": b"%d " % n * (n % 50) for n in range(300)}
    contents |= {
        "empty": b"",
        "a b/ü 🐈": b"odd name",
        "twin 1": b"the same",
        "x/twin 2": b"the same",
        "edge": os.urandom(SMALL),
        "over": os.urandom(SMALL + 1),
        "large.bin": os.urandom(LARGE),
    }
    top = make(tmp_path / "here", contents)
    (top / "edge").chmod(0o755)
    first = await send(store, top)
    assert first.bytes < sum(map(len, contents.values())), "twins are stored once"
    assert first.objects < 10, "small files share objects"
    again = await send(store, top)
    assert (again.bytes, again.objects) == (0, 0)
    files = by_path(first)
    assert {p: f.size for p, f in files.items()} == {p: len(c) for p, c in contents.items()}
    dumped = Manifest(files, whole=True).dump()
    assert Manifest.parse(dumped).files == files
    progress = Progress()
    await fetching.fetch(store, files, tmp_path / "there", progress)
    assert read(tmp_path / "there") == contents
    assert progress.sofar == sum(map(len, contents.values()))
    modes = {p: (tmp_path / "there" / p).stat().st_mode & 0o777 for p in contents}
    assert modes.pop("edge") == 0o555
    assert set(modes.values()) == {0o444}


async def test_a_second_version_sends_what_changed(store: Store, tmp_path: Path):
    chance = random.Random(1)
    contents = {f"{n}": chance.randbytes(4000) for n in range(1000)} | {"big": os.urandom(LARGE)}
    top = make(tmp_path / "here", contents)
    known = Known()
    known.add(files := by_path(await send(store, top)))
    for n in range(10):
        (top / f"{n}").write_bytes(chance.randbytes(4000))
    with (top / "big").open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"changed")
    os.rename(top / "500", top / "moved")
    second = await send(store, top, known)
    assert second.bytes <= 10 * 4000 + (4 << 20)
    changed = manifest.between(files, by_path(second))
    assert len(changed.files) == 12
    assert changed.removed == {"500"}
    assert len(changed.dump()) < 2000
    assert changed.over([files]) == by_path(second)
    became = manifest.difference(files, by_path(second))
    assert became.added == ("moved",)
    assert became.removed == ("500",)
    assert len(became.modified) == 11


async def test_large_files_may_go_by_either_hash(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    top = make(tmp_path / "here", {"big": os.urandom(LARGE), "small": b"small"})
    with monkeypatch.context() as patch:
        patch.setattr(hashing, "WAYS", (hashing.sha256,))
        files = by_path(await send(store, top))
    await fetching.fetch(store, files, tmp_path / "there", Progress())
    assert read(tmp_path / "there") == read(top)
    assert await fetching.broken(store, files, Progress()) == {}
    same = await sending.hashes(store, scan(str(top)), Progress(), files)
    assert {f.path: f.hash for f in same} == {p: f.hash for p, f in files.items()}


async def test_an_interrupted_upload_goes_on_where_it_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    contents = {f"{n}": os.urandom(400_000) for n in range(60)} | {"big": os.urandom(LARGE)}
    top = make(tmp_path / "here", contents)
    whole = Store.save
    saved: list[int] = []

    def breaks(self: Store, content: Content, digest: str | None = None) -> tuple[str, bool]:
        if len(saved) == 3:
            raise OSError("the line is cut")
        saved.append(len(content))
        return whole(self, content, digest)

    monkeypatch.setattr(Store, "save", breaks)
    with pytest.raises(Refused, match="the line is cut"):
        await send(store, top)
    monkeypatch.setattr(Store, "save", whole)
    second = await send(store, top)
    assert second.bytes == sum(map(len, contents.values())) - sum(saved)
    await fetching.fetch(store, by_path(second), tmp_path / "there", Progress())
    assert read(tmp_path / "there") == contents


async def test_an_interrupted_download_goes_on_where_it_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    contents = {f"{n}": os.urandom(3000) for n in range(20)} | {"big": os.urandom(LARGE)}
    files = by_path(await send(store, make(tmp_path / "here", contents)))
    target = tmp_path / "there"
    make(target, {n: contents[n] for n in ("1", "2")} | {"3": b"x" * 3000})
    (target / "big").write_bytes(contents["big"][: 4 << 20])
    (target / "1").chmod(0o444)
    loads: list[str] = []
    load = Store.load

    def counted(self: Store, digest: str, *where: Any, **room: Any) -> Content:
        loads.append(digest)
        return load(self, digest, *where, **room)

    monkeypatch.setattr(Store, "load", counted)
    await fetching.fetch(store, files, target, Progress())
    assert read(target) == contents
    assert set(files["big"].objects) - set(loads) == {files["big"].objects[0]}


async def test_what_is_here_in_another_version_is_a_link(store: Store, tmp_path: Path):
    contents = {"a": b"one", "b": b"two", "big": os.urandom(LARGE)}
    top = make(tmp_path / "here", contents)
    old = by_path(await send(store, top))
    await fetching.fetch(store, old, tmp_path / "old", Progress())
    (top / "a").write_bytes(b"new")
    known = Known()
    known.add(old)
    new = by_path(await send(store, top, known))
    here = fetching.paths_by_hash(tmp_path / "old", list(old.values()))
    await fetching.fetch(store, new, tmp_path / "new", Progress(), here=here)
    for name, linked in {"a": False, "b": True, "big": True}.items():
        inodes = {(tmp_path / each / name).stat().st_ino for each in ("old", "new")}
        assert (len(inodes) == 1) == linked
    await fetching.fetch(store, new, tmp_path / "mine", Progress(), writable=True)
    (tmp_path / "mine" / "b").write_bytes(b"changed")
    assert (tmp_path / "old" / "b").read_bytes() == b"two"


async def test_what_is_wrong_in_the_store_is_found(tmp_path: Path):
    store = Store(Place(str(tmp_path / "store")))
    contents = {"a": b"one", "b": b"two", "big": os.urandom(LARGE), "gone": os.urandom(LARGE)}
    files = by_path(await send(store, make(tmp_path / "here", contents)))
    assert await fetching.broken(store, files, Progress()) == {}
    for digest, content in {
        files["b"].objects[0]: b"oneTWO",
        files["big"].objects[1]: b"short",
    }.items():
        (tmp_path / store._object(digest)).write_bytes(content)
    os.unlink(store._object(files["gone"].objects[2]))
    assert await fetching.broken(store, files, Progress()) == {
        "b": "corrupted",
        "big": "corrupted",
        "gone": "missing",
    }
    with pytest.raises((ServerError, NotFound)):
        await fetching.fetch(store, files, tmp_path / "there", Progress())


def test_a_scan_finds_what_is_asked_for(tmp_path: Path):
    top = make(tmp_path / "top", {"a.txt": b"", "b.csv": b"", "sub/c.txt": b"", "sub/d/e.txt": b""})
    (top / "link.txt").symlink_to(top / "a.txt")

    def paths(found: Iterable[Source]) -> list[str]:
        return [each.path for each in found]

    everything = ["a.txt", "b.csv", "link.txt", "sub/c.txt", "sub/d/e.txt"]
    assert paths(scan(str(top))) == everything
    assert paths(scan(f"{top}/")) == everything
    assert paths(scan(str(top), recursive=False)) == everything[:3]
    assert paths(scan(str(top), wildcards=["*.csv", "sub/d/*"])) == ["b.csv", "sub/d/e.txt"]
    assert paths(scan(str(top / "sub"), folder="/x/")) == ["x/c.txt", "x/d/e.txt"]
    assert paths(scan(str(top / "sub"), base=str(top))) == ["sub/c.txt", "sub/d/e.txt"]
    assert paths(scan(str(top / "sub" / "c.txt"))) == ["c.txt"]
    with pytest.raises(NotFound, match="there is no"):
        scan(str(top / "nowhere"))
    with pytest.raises(Usage, match="no folder of a dataset"):
        scan(str(top), folder="../x")
    (top / "dead").symlink_to("nothing")
    with pytest.raises(Usage, match="a link to nothing"):
        scan(str(top))


async def test_a_manifest_cannot_write_outside_of_its_folder(tmp_path: Path):
    store = Store(Place(str(tmp_path / "store")))
    for path in ("../evil/x", "/etc/x", "a/../../x"):
        with pytest.raises(Refused, match="outside of its folder"):
            await fetching.fetch(store, {path: File(path, 0, "")}, tmp_path / "t", Progress())


def test_a_draft_is_kept_until_it_is_sent(clearflow_home: Path):
    from clearflow.settings import settings

    settings.cache_clear()
    id = uuid.uuid4().hex
    source = Source("a", "somewhere/a", 3, 5, True)
    with drafts.changed(id) as draft:
        draft.add([source])
        draft.link([File("b", 7, "", link="https://example.org/b")])
        draft.take_away("c")
    with contextlib.suppress(ZeroDivisionError), drafts.changed(id) as draft:
        draft.take_away("a")
        raise ZeroDivisionError
    found = drafts.read(id)
    assert found.added == {"a": source}
    assert found.links["b"].link == "https://example.org/b"
    assert found.removed == {"c"}
    with drafts.changed(id) as draft:
        draft.forget(lambda path: True)
    assert drafts.read(id).empty
    # What somebody adds while it is sent stays.
    for more in ([], [Source("new", "somewhere/new", 1, 1)]):
        with drafts.changed(id) as draft:
            draft.add([source])
        before = drafts.read(id)
        with drafts.changed(id) as draft:
            draft.add(more)
        drafts.sent(id, before)
        assert list(drafts.read(id).added.values()) == more
    drafts.forget(id)
    assert not list((clearflow_home / "drafts").iterdir())
    settings.cache_clear()


names = st.sampled_from(["a", "b/c", "b/d", "e"])
versions = st.dictionaries(names, st.sampled_from(["1", "2", "3"]), max_size=4)


@given(st.lists(versions, min_size=1, max_size=4))
def test_a_version_is_its_parents_and_its_changes(history: list[dict[str, str]]):
    inherited: dict[str, File] = {}
    for wanted in history:
        files = {p: File(p, 1, hash, (hash,)) for p, hash in wanted.items()}
        made = Manifest.parse(manifest.between(inherited, files).dump())
        assert made.over([inherited]) == files
        became = manifest.difference(inherited, files)
        assert set(became.added) | set(became.modified) == set(made.files)
        inherited = files


@given(st.dictionaries(st.text("abcdef/", min_size=1), st.integers(0, 1000)), st.integers(1, 7))
def test_shares_are_all_of_it_and_nothing_twice(sizes: dict[str, int], parts: int):
    files = {path: File(path, size, "") for path, size in sizes.items()}
    shares = [manifest.share(files, part, parts) for part in range(parts)]
    assert sorted(p for share in shares for p in share) == sorted(files)


def test_files_are_chosen_by_folder_and_wildcard():
    files = {p: File(p, 1, "") for p in ("a/b", "a/c.txt", "ab", "d.txt")}
    assert set(manifest.chosen(files, None)) == set(files)
    assert set(manifest.chosen(files, ["a"])) == {"a/b", "a/c.txt"}
    assert set(manifest.chosen(files, ["*.txt", "ab"])) == {"a/c.txt", "ab", "d.txt"}
