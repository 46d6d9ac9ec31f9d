"""A working copy as it stood elsewhere, made again here.

    <home>/mirrors/<name>.git      the history of one repository, shared by all its tasks
    <home>/mirrors/<name>.lock

A mirror fetches from the remote only what a bundle builds on and is not here yet. Git checks the
contents by their hashes, so the tree is the one that was sent or nothing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clearflow.capture.git import GitFailed, git
from clearflow.capture.snapshot import REF, SETTINGS, Part
from clearflow.words.names import slug

_HEADERS = (b"# v2 git bundle", b"# v3 git bundle")
_ALL = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")


def reproduce(parts: Sequence[Part], home: Path, folder: Path) -> None:
    """Make the working copy in `folder`, which must not exist or be empty.

    It can be deleted at any time: the mirrors forget it when they are next used. The agent's own
    credentials reach the remotes. Raises GitFailed with git's words.
    """
    for part in parts:
        mirror = home / "mirrors" / f"{slug(part.remote or f'local {parts[0].commit}')}.git"
        with _locked(mirror):
            _fill(mirror, part)
            git("worktree", "prune", cwd=mirror)
            place = folder / part.path
            words = ("worktree", "add", "-q", "--force", "--detach", str(place), part.commit)
            git(*words, cwd=mirror, settings=SETTINGS)
        tree = git("rev-parse", "HEAD^{tree}", cwd=folder / part.path)
        if tree != part.tree:
            raise GitFailed(
                f"the tree of {part.path or 'the snapshot'} is not the one that was sent"
            )


def _fill(mirror: Path, part: Part) -> None:
    """Have the commit of this part in the mirror."""
    if not mirror.is_dir():
        git("init", "-q", "--bare", str(mirror), cwd=mirror.parent)
        git("config", "gc.auto", "0", cwd=mirror)
    if part.remote is not None:
        git("config", "remote.origin.url", part.remote, cwd=mirror)
    if _has(mirror, [part.commit]):
        return
    needed = _prerequisites(part.bundle) if part.bundle is not None else [part.commit]
    if not _has(mirror, needed):
        _fetch(mirror, part.remote, needed)
    if part.bundle is not None:
        kept = f"{REF}:refs/clearflow/{part.commit}"
        git("fetch", "-q", "--no-tags", str(part.bundle.resolve()), kept, cwd=mirror)


def _fetch(mirror: Path, remote: str | None, needed: Sequence[str]) -> None:
    if remote is None:
        raise GitFailed("the snapshot builds on commits that no other machine has")
    git("fetch", "-q", "--prune", "origin", *_ALL, cwd=mirror)
    if _has(mirror, needed):
        return
    try:
        git("fetch", "-q", "--no-tags", "origin", *needed, cwd=mirror)
    except GitFailed as error:
        raise GitFailed(
            f"{remote} has commit {needed[0][:12]} no more: {error.message}",
            hint="run `git fetch` where the task was sent from, and send it again",
        ) from None


def _has(mirror: Path, commits: Sequence[str]) -> bool:
    given = "".join(f"{commit}\n" for commit in commits)
    said = git("cat-file", "--batch-check=%(objecttype)", cwd=mirror, given=given)
    return all(line == "commit" for line in said.split("\n") if line)


def _prerequisites(bundle: Path) -> list[str]:
    """The commits that a bundle builds on, from its header."""
    with bundle.open("rb") as file:
        if file.readline().rstrip() not in _HEADERS:
            raise GitFailed(f"{bundle} is not a bundle")
        needed = []
        while (line := file.readline().rstrip(b"\n")) != b"":
            if line.startswith(b"-"):
                needed.append(line[1:].split(b" ")[0].decode())
        return needed


@contextmanager
def _locked(mirror: Path) -> Iterator[None]:
    mirror.parent.mkdir(parents=True, exist_ok=True)
    with open(mirror.with_suffix(".lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
