"""What is in a version of a dataset: its files, by where their contents lie in the store.

Small files share objects, which are packs of some megabytes; large ones are cut into parts of one
size, each an object. A version says what is different from its parents, so that a small change is
a small manifest. Pure: no file is touched here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

SMALL = 1 << 19
"""Bytes up to which a file goes into a pack."""
PACK = 1 << 23
"""Bytes of a pack."""

_PART, _LARGE_PART = 4 << 20, 15 << 20
_LARGE = 4 << 30
_FORM = 1
EMPTY = hashlib.sha256().hexdigest()


def part_size(size: int) -> int:
    """How many bytes each part of a large file has, but the last one."""
    return _PART if size <= _LARGE else _LARGE_PART


@dataclass(frozen=True, slots=True)
class File:
    """A file of a dataset, by its path there.

    `objects` are those that hold it: one pack, in which it begins at `offset`, or its parts.
    `hash` is SHA-256 of its content; of a file in several parts that of the hashes of these.
    `link` is where a file lies that is not in the store.
    """

    path: str
    size: int
    hash: str
    objects: tuple[str, ...] = ()
    offset: int = 0
    executable: bool = False
    link: str = ""

    @property
    def packed(self) -> bool:
        return self.size <= SMALL

    def same(self, other: File) -> bool:
        """Whether its content is that of the other one."""
        return (self.size, self.hash, self.link) == (other.size, other.hash, other.link)


Files = Mapping[str, File]


def whole_hash(parts: Sequence[str]) -> str:
    """The hash of a file whose parts have these."""
    if len(parts) == 1:
        return parts[0]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def content_hash(files: Iterable[File]) -> str:
    """One hash for everything that is in a version."""
    made = hashlib.sha256()
    for file in sorted(files, key=lambda each: each.path):
        made.update(f"{file.hash} {file.path}\n".encode(errors="surrogateescape"))
    return made.hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What a version adds to its parents and takes away; `whole` when it stands for itself."""

    files: Files = field(default_factory=dict)
    removed: frozenset[str] = frozenset()
    whole: bool = False

    def over(self, parents: Iterable[Files]) -> dict[str, File]:
        """The files of a version with these parents; a later parent goes before an earlier one."""
        found: dict[str, File] = {}
        if not self.whole:
            for parent in parents:
                found.update(parent)
            for path in self.removed:
                found.pop(path, None)
        found.update(self.files)
        return found

    def objects(self) -> set[str]:
        """Everything in the store that it names."""
        return {each for file in self.files.values() for each in file.objects}

    def dump(self) -> bytes:
        """The same bytes for the same manifest."""
        number = {each: n for n, each in enumerate(sorted(self.objects()))}
        rows = []
        for path in sorted(self.files):
            file = self.files[path]
            where = [number[each] for each in file.objects]
            rows.append([path, file.size, file.hash, where, file.offset, int(file.executable)])
            if file.link:
                rows[-1].append(file.link)
        said = {
            "form": _FORM,
            "whole": self.whole,
            "removed": sorted(self.removed),
            "objects": sorted(number),
            "files": rows,
        }
        return gzip.compress(json.dumps(said, separators=(",", ":")).encode(), 1, mtime=0)

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Raises ValueError for what is no manifest, or one of a newer clearflow."""
        said = json.loads(gzip.decompress(content))
        if said.get("form") != _FORM:
            raise ValueError("a manifest of a newer clearflow")
        objects = said["objects"]
        files = {}
        for path, size, hash, where, offset, executable, *link in said["files"]:
            held = tuple(objects[n] for n in where)
            files[path] = File(path, size, hash, held, offset, bool(executable), *link)
        return cls(files, frozenset(said["removed"]), said["whole"])


def between(parents: Files, wanted: Files) -> Manifest:
    """What makes these files of those of the parents."""
    changed = {
        path: file
        for path, file in wanted.items()
        if path not in parents
        or not file.same(parents[path])
        or file.executable != parents[path].executable
    }
    return Manifest(changed, frozenset(parents.keys() - wanted.keys()))


@dataclass(frozen=True)
class Difference:
    """What became of the files of the parents."""

    added: tuple[str, ...]
    modified: tuple[str, ...]
    removed: tuple[str, ...]


def difference(parents: Files, now: Files) -> Difference:
    """By path and content."""
    return Difference(
        tuple(sorted(now.keys() - parents.keys())),
        tuple(sorted(p for p, f in now.items() if p in parents and not f.same(parents[p]))),
        tuple(sorted(parents.keys() - now.keys())),
    )


def matches(path: str, wanted: str) -> bool:
    """Whether a path is the one that is asked for: itself, in that folder, or by wildcards."""
    wanted = wanted.strip("/")
    return path == wanted or path.startswith(f"{wanted}/") or fnmatchcase(path, wanted)


def chosen(files: Files, wanted: Collection[str] | None) -> dict[str, File]:
    """The files that fit any of these paths; all of them for None."""
    if wanted is None:
        return dict(files)
    exact = {path: files[path] for path in wanted if path in files}
    others = [each for each in wanted if each not in exact]
    if not others:
        return exact
    return {p: f for p, f in files.items() if p in exact or any(matches(p, w) for w in others)}


def share(files: Files, part: int, parts: int) -> dict[str, File]:
    """One of several shares of about the same number of bytes, in the order of the paths."""
    total = sum(each.size + 1 for each in files.values())
    found, before = {}, 0
    for path in sorted(files):
        if before * parts // total == part:
            found[path] = files[path]
        before += files[path].size + 1
    return found
