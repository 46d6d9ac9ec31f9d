"""Working copies of every kind, taken here and made again elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clearflow.capture import reproduce, snapshot
from clearflow.capture.git import GitFailed, elsewhere, without_credentials
from tests.support.git import Laptop, files, git

NAMES = [
    "a.py",
    "b",
    "data/c.bin",
    "data/deep/ä ö.txt",
    "quo'te\"s.txt",
    " lead",
    "new\nline",
    "-dash",
    "🙂/x.py",
    "ignored.log",
    "data/also.log",
]
names = st.sampled_from(NAMES)
contents = st.sampled_from([b"", b"one\n", b"two\r\n", b"\0\1\2", b"x" * 5000]) | st.binary(
    max_size=50
)


@pytest.fixture
def laptop(remotes: tuple[Path, str], tmp_path: Path) -> Laptop:
    return Laptop(tmp_path, *remotes)


def sent(laptop: Laptop, folder: Path) -> tuple[snapshot.Snapshot, Path]:
    """The snapshot of a working copy, and the copy of it on a machine of its own."""
    place = folder / "snapshot"
    place.mkdir()
    taken = snapshot.take(laptop.root, place)
    copy = folder / "agent" / "copy"
    reproduce.reproduce(taken.parts, folder / "agent", copy)
    return taken, copy


actions = st.one_of(
    st.builds(lambda n, c, p: lambda x: x.write(n, c, p), names, contents, st.booleans()),
    st.builds(lambda n, t: lambda x: x.link(n, t), names, names),
    st.builds(lambda n: lambda x: x.delete(n), names),
    st.builds(lambda n, t: lambda x: x.rename(n, t), names, names),
    st.sampled_from(
        [
            lambda x: x.ignore("*.log\n"),
            lambda x: x.ignore("data/\n"),
            Laptop.stage,
            Laptop.commit,
            Laptop.push,
            lambda x: x.submodule("inner"),
            lambda x: x.submodule("data/other inner"),
        ]
    ),
)


@pytest.mark.timeout(600)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(done=st.lists(actions, max_size=14))
def test_any_working_copy_is_the_same_elsewhere(remotes, done) -> None:
    with tempfile.TemporaryDirectory(prefix="clearflow-") as name:
        laptop = Laptop(Path(name), *remotes)
        for action in done:
            action(laptop)
        before = laptop.untouched()
        _, copy = sent(laptop, Path(name))
        assert laptop.untouched() == before
        assert files(copy) == laptop.seen()
    shutil.rmtree(laptop.remote.parent)


def test_only_what_the_remote_lacks_travels(laptop: Laptop, tmp_path: Path) -> None:
    laptop.write("big.bin", os.urandom(1_000_000))
    laptop.save()
    laptop.push()
    laptop.write("train.py", b"print(1)\n")
    taken, copy = sent(laptop, tmp_path)
    assert taken.size < 2_000
    assert taken.parts[0].remote == laptop.url
    assert files(copy) == laptop.seen()


def test_a_pushed_working_copy_travels_as_the_name_of_its_commit(laptop: Laptop, tmp_path: Path):
    laptop.write("train.py", b"print(1)\n")
    laptop.save()
    laptop.push()
    taken, copy = sent(laptop, tmp_path)
    assert (taken.size, taken.commit) == (0, git(laptop.root, "rev-parse", "HEAD"))
    assert files(copy) == laptop.seen()


def test_the_same_working_copy_is_the_same_commit(laptop: Laptop, tmp_path: Path) -> None:
    laptop.write("train.py", b"print(1)\n")
    laptop.save()
    laptop.write("train.py", b"print(2)\n")
    found = set()
    for number in range(2):
        place = tmp_path / str(number)
        place.mkdir()
        found.add(snapshot.take(laptop.root, place).commit)
    assert len(found) == 1


def test_a_change_in_the_same_moment_as_the_index_is_seen(laptop: Laptop, tmp_path: Path) -> None:
    laptop.write("train.py", b"one")
    laptop.save()
    file, index = laptop.root / "train.py", laptop.root / ".git" / "index"
    moment = file.stat().st_mtime_ns
    file.write_bytes(b"two")
    for each in (file, index):
        os.utime(each, ns=(moment, moment))
    _, copy = sent(laptop, tmp_path)
    assert (copy / "train.py").read_bytes() == b"two"


def test_a_file_that_git_was_told_not_to_look_at_travels_too(laptop: Laptop, tmp_path: Path):
    laptop.write("train.py", b"print(1)\n")
    laptop.save()
    git(laptop.root, "update-index", "--assume-unchanged", "train.py")
    laptop.write("train.py", b"print(22)\n")
    _, copy = sent(laptop, tmp_path)
    assert (copy / "train.py").read_bytes() == b"print(22)\n"


def test_a_working_copy_in_the_middle_of_a_merge(laptop: Laptop, tmp_path: Path) -> None:
    laptop.write("train.py", b"1\n")
    laptop.save()
    git(laptop.root, "checkout", "-q", "-b", "other")
    laptop.write("train.py", b"2\n")
    laptop.commit()
    git(laptop.root, "checkout", "-q", "main")
    laptop.write("train.py", b"3\n")
    laptop.commit()
    with pytest.raises(Exception, match="exit status 1"):
        git(laptop.root, "merge", "-q", "other")
    _, copy = sent(laptop, tmp_path)
    assert files(copy) == laptop.seen()


def test_a_worktree_and_a_shallow_clone(laptop: Laptop, tmp_path: Path) -> None:
    for number in range(3):
        laptop.write("train.py", b"%d\n" % number)
        laptop.save()
    laptop.push()
    git(tmp_path, "clone", "-q", "--depth=1", laptop.url, "shallow")
    laptop.root = tmp_path / "shallow"
    git(laptop.root, "worktree", "add", "-q", "../worktree")
    laptop.root = tmp_path / "worktree"
    laptop.write("new.py", b"4\n")
    _, copy = sent(laptop, tmp_path)
    assert files(copy) == laptop.seen()


def test_what_looks_like_a_secret_is_told(laptop: Laptop, tmp_path: Path) -> None:
    laptop.write("tracked.pem", b"x")
    laptop.save()
    laptop.write(".env", b"TOKEN=1")
    laptop.write("id_mapping.py", b"")
    laptop.write("deep/notes.txt", b"-----BEGIN RSA PRIVATE KEY-----\nx\n")
    laptop.write(".env.example", b"TOKEN=")
    laptop.write("my-credentials.json", b"{}")
    place = tmp_path / "snapshot"
    place.mkdir()
    taken = snapshot.take(laptop.root, place)
    assert sorted(taken.forbidden) == [".env", "deep/notes.txt", "my-credentials.json"]


def test_a_commit_that_the_remote_has_no_more(laptop: Laptop, tmp_path: Path) -> None:
    laptop.write("train.py", b"1\n")
    laptop.save()
    laptop.push()
    shutil.rmtree(laptop.remote)
    git(tmp_path, "init", "-q", "--bare", str(laptop.remote))
    with pytest.raises(GitFailed, match=r"has commit .* no more") as failed:
        sent(laptop, tmp_path)
    assert "git fetch" in (failed.value.hint or "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ada:token@host/x.git", "https://host/x.git"),
        ("https://token@host/x.git", "https://host/x.git"),
        ("https://host/x.git", "https://host/x.git"),
        ("ssh://git@host/x.git", "ssh://git@host/x.git"),
        ("git@host:ada/x.git", "git@host:ada/x.git"),
    ],
)
def test_secrets_are_taken_out_of_addresses(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    ("url", "reachable"),
    [
        ("https://host/x.git", True),
        ("git@host:x.git", True),
        ("host:x.git", True),
        ("../x.git", False),
        ("file:///srv/x.git", False),
        ("./odd:name", False),
    ],
)
def test_a_remote_in_a_folder_is_of_this_machine(url: str, reachable: bool) -> None:
    assert elsewhere(url) is reachable
