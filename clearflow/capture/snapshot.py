"""The code as it stands: one commit of the working copy, and a bundle of what its remote lacks.

Every difference is in it: staged or not, new files that are not ignored, modes, links, binary
files, submodules, commits that nobody has pushed. The user's repository is only read: new objects
and the index that holds them live in a folder of their own. The same working copy gives the same
commit, whoever takes it and whenever.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clearflow.capture import secrets
from clearflow.capture.git import attempt, elsewhere, git, without_credentials
from clearflow.errors import Refused

SETTINGS = (
    "core.compression=1",  # it is sent once: speed counts, not the last percent
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.safecrlf=false",
    "advice.addEmbeddedRepo=false",
)
_NAMES = ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME")
_ADDRESSES = ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL")
_DATES = ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")
REF = "refs/heads/snapshot"
_GITLINK = "160000"
MOST = 500_000_000  # bytes of new and changed files, before they are compressed


@dataclass(frozen=True, slots=True)
class Part:
    """One repository of a working copy: the whole, or a submodule at `path`.

    `remote` is where others get its history, without credentials; None when only this machine has
    it. `bundle` is a file with what the remote lacks, None when it lacks nothing.
    """

    path: str
    commit: str
    tree: str
    remote: str | None
    bundle: Path | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A working copy: the whole first, then its submodules, outer ones before inner ones.

    `forbidden` are new files that look like secrets: they are in it, and must not be sent unless
    somebody named them. `largest` names the largest file that is new or changed, with its size.
    """

    parts: tuple[Part, ...]
    forbidden: tuple[str, ...]
    largest: str = ""

    @property
    def commit(self) -> str:
        return self.parts[0].commit

    @property
    def size(self) -> int:
        """Bytes that have to travel."""
        return sum(p.bundle.stat().st_size for p in self.parts if p.bundle is not None)


def root_of(folder: Path) -> Path | None:
    """The working copy that a folder belongs to."""
    for place in (folder, *folder.parents):
        if (place / ".git").exists():
            return place
    return None


def take(root: Path, place: Path) -> Snapshot:
    """Take a snapshot of the working copy at `root`; `place` is an empty folder to work in.

    The bundles are in `place`. Raises GitFailed with git's words, Refused when new and changed
    files are larger than MOST together.
    """
    largest = _checked(root)
    taken = list(_take(root, "", place))
    parts = tuple(part for part, _ in reversed(taken))
    forbidden = tuple(name for _, names in reversed(taken) for name in names)
    return Snapshot(parts, forbidden, largest)


def _checked(root: Path) -> str:
    """The largest new or changed file, with its size. Reading gigabytes first would take long."""
    words = ("ls-files", "-z", "--modified", "--others", "--exclude-standard")
    sizes: dict[str, int] = {}
    for name in git(*words, cwd=root).split("\0"):
        with suppress(OSError):
            if name:
                sizes[name] = (root / name).lstat().st_size
    if not sizes:
        return ""
    name = max(sizes, key=lambda each: sizes[each])
    largest = f"{name} ({sizes[name] / 1e6:,.1f} MB)"
    if sum(sizes.values()) > MOST:
        raise Refused(
            f"{largest} is too much to send with the code",
            hint="list large data in .gitignore",
        )
    return largest


def _take(root: Path, path: str, place: Path) -> Iterator[tuple[Part, list[str]]]:
    """This repository and, before it, those inside: their commits are part of its tree."""
    store = place / f"{len(list(place.iterdir()))}.git"
    git("init", "-q", "--bare", "--template=", str(store), cwd=place)
    objects, theirs, shallow = _paths(root, "objects", "index", "shallow")
    env = _objects(objects, store) | {"GIT_INDEX_FILE": str(store / "index")}
    _copy_index(root, theirs, store / "index", env)
    unborn = list(_unborn(root, env))
    others = [f":(exclude,literal){name}" for name in unborn]
    git("add", "--all", "--", ".", *others, cwd=root, env=env, settings=SETTINGS)
    nested = [*_nested(root, env), *unborn]
    inside = {}
    for name in nested:
        inner = f"{path}/{name}" if path else name
        for part, names in _take(root / name, inner, place):
            inside[part.path] = part.commit
            yield part, names
    said = "".join(
        f"{_GITLINK} {inside[f'{path}/{name}' if path else name]}\t{name}\0" for name in nested
    )
    if said:
        git("update-index", "-z", "--index-info", cwd=root, env=env, given=said)
    tree = git("write-tree", cwd=root, env=env)
    head, its_tree, when = _last(root)
    commit = head
    if head is None or its_tree != tree:
        commit = _commit(root, tree, head, when, env)
    assert commit is not None
    remote, url = _remote(root)
    if shallow.exists():
        shutil.copyfile(shallow, store / "shallow")
    bundle = _bundle(root, store, commit, remote, new=commit != head)
    new = secrets.found(root, _new_files(root, head, tree, env))
    yield (
        Part(path, commit, tree, without_credentials(url) if url else None, bundle),
        [f"{path}/{name}" if path else name for name in new],
    )


def _objects(theirs: Path, store: Path) -> dict[str, str]:
    """New objects go to `store`, the user's are read."""
    (store / "objects" / "info").mkdir(exist_ok=True, parents=True)
    (store / "objects" / "info" / "alternates").write_text(f"{theirs}\n")
    return {
        "GIT_OBJECT_DIRECTORY": str(store / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(theirs),
    }


def _paths(root: Path, *names: str) -> list[Path]:
    """Where git keeps these of the user's repository."""
    words = [word for name in names for word in ("--git-path", name)]
    found = git("rev-parse", *words, cwd=root).split("\n")
    if len(found) != len(names):  # a line's end in the name of a folder
        found = [git("rev-parse", "--git-path", name, cwd=root) for name in names]
    return [(root / each).resolve() for each in found]


def _copy_index(root: Path, theirs: Path, index: Path, env: dict[str, str]) -> None:
    """Begin with what the user's index knows of unchanged files: they need not be read."""
    if not theirs.exists():
        return
    # With its time: a file that was changed in the same moment as the index is compared by content.
    shutil.copy2(theirs, index)
    # Files that the user told git not to look at have changed all the same.
    listed = git("ls-files", "-v", "-z", cwd=root, env=env)
    unseen = "\0".join(entry[2:] for entry in listed.split("\0") if entry[:1].islower())
    if unseen:
        words = ("update-index", "--no-assume-unchanged", "-z", "--stdin")
        git(*words, cwd=root, env=env, given=unseen + "\0")


def _nested(root: Path, env: dict[str, str]) -> Iterator[str]:
    """Repositories in this one that are checked out: submodules, and others lying in it."""
    for entry in git("ls-files", "--stage", "-z", cwd=root, env=env).split("\0"):
        mode, _, rest = entry.partition(" ")
        if mode == _GITLINK:
            name = rest.partition("\t")[2]
            if (root / name / ".git").exists():
                yield name


def _unborn(root: Path, env: dict[str, str]) -> Iterator[str]:
    """Repositories lying in this one that have no commit yet: git adds no others of them."""
    words = ("ls-files", "-z", "--others", "--exclude-standard")
    for name in git(*words, cwd=root, env=env).split("\0"):
        place = root / name
        if name.endswith("/") and (place / ".git").exists() and _head(place) is None:
            yield name.rstrip("/")


def _head(root: Path) -> str | None:
    """The commit that is checked out; None before the first one."""
    return attempt("rev-parse", "-q", "--verify", "HEAD", cwd=root)


def _last(root: Path) -> tuple[str | None, str, str]:
    """The commit that is checked out, its tree and its time; None before the first one."""
    words = (
        "log",
        "-1",
        "--no-show-signature",
        "--no-decorate",
        "--format=%H %T %cI",
        "HEAD",
        "--",
    )
    said = attempt(*words, cwd=root)
    if not said:
        return None, "", "2000-01-01T00:00:00Z"
    commit, tree, when = said.split(" ")
    return commit, tree, when


def _commit(root: Path, tree: str, head: str | None, when: str, env: dict[str, str]) -> str:
    who = dict.fromkeys(_NAMES, "clearflow") | dict.fromkeys(_ADDRESSES, "clearflow@localhost")
    parents = ("-p", head) if head else ()
    words = ("commit-tree", tree, *parents, "-m", "The working copy as it stood")
    return git(*words, cwd=root, env=env | who | dict.fromkeys(_DATES, when))


_REMOTE = re.compile(r"([^\t\n]+)\t(.*) \(fetch\)(?: \[[^]]*\])?")


def _remote(root: Path) -> tuple[str | None, str | None]:
    """The remote that other machines can reach, and its address: the branch's own, else origin,
    else any.
    """
    urls: dict[str, str] = {}
    for line in git("remote", "-v", cwd=root).split("\n"):
        if found := _REMOTE.fullmatch(line):
            urls.setdefault(found[1], found[2])
    urls = {name: url for name, url in urls.items() if elsewhere(url)}
    name = next(iter(urls), None)
    if len(urls) > 1:
        branch = attempt("symbolic-ref", "-q", "HEAD", cwd=root)
        words = ("for-each-ref", "--format=%(upstream:remotename)")
        own = branch and attempt(*words, branch, cwd=root)
        name = next(each for each in (own, "origin", name) if each in urls)
    return name, urls[name] if name is not None else None


def _bundle(root: Path, store: Path, commit: str, remote: str | None, *, new: bool) -> Path | None:
    """What others lack to have this commit; a new one was made here."""
    known = ""
    if remote is not None:
        pattern = f"refs/remotes/{remote}"
        known = git("for-each-ref", "--format=%(objectname)", pattern, cwd=root)
    tips = [c for c in known.split("\n") if c]
    if commit in tips:
        return None
    given = "".join(f"^{c}\n" for c in tips)
    # What was made here just now nobody else has, nor anything of a repository without a remote.
    others = tips and not new
    if others and not git("rev-list", "--max-count=1", commit, "--stdin", cwd=store, given=given):
        return None
    git("update-ref", REF, commit, cwd=store)
    bundle = store / "bundle"
    words = ("bundle", "create", "-q", str(bundle), "--stdin")
    git(*words, cwd=store, given=f"{REF}\n{given}", settings=SETTINGS)
    return bundle


def _new_files(root: Path, head: str | None, tree: str, env: dict[str, str]) -> list[str]:
    """Files that the last commit does not have."""
    if head is None:
        return [n for n in git("ls-files", "-z", cwd=root, env=env).split("\0") if n]
    words = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A")
    return [n for n in git(*words, head, tree, cwd=root, env=env).split("\0") if n]
