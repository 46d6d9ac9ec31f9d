"""What is to go into a version and is not uploaded yet: kept on the machine that has the files."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from clearflow.datasets.scan import Source
from clearflow.settings import settings
from clearflow.words.manifest import File

T = TypeVar("T")


@dataclass
class Draft:
    """Files to add, by their paths in the dataset, links to elsewhere, and paths to take away.

    `stamp` is that of the file it was read from, which is another one after each change.
    """

    added: dict[str, Source] = field(default_factory=dict)
    links: dict[str, File] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    stamp: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def empty(self) -> bool:
        return not (self.added or self.links or self.removed)

    def __len__(self) -> int:
        return len(self.added) + len(self.links) + len(self.removed)

    def add(self, sources: list[Source]) -> None:
        for source in sources if self.links or self.removed else ():
            self._place(source.path)
        self.added.update((source.path, source) for source in sources)

    def link(self, files: list[File]) -> None:
        for file in files:
            self._place(file.path)
            self.links[file.path] = file

    def take_away(self, path: str) -> None:
        self._place(path)
        self.removed.add(path)

    def forget(self, which: Callable[[str], bool]) -> None:
        """Nothing is to happen to these paths."""
        for path in [*self.added, *self.links, *self.removed]:
            if which(path):
                self._place(path)

    def _place(self, path: str) -> None:
        self.added.pop(path, None)
        self.links.pop(path, None)
        self.removed.discard(path)


def read(id: str) -> Draft:
    """The draft of a dataset on this machine; an empty one when there is none."""
    try:
        with _file(id).open() as file:
            stamp = _stamp(file.fileno())
            said = json.load(file)
    except FileNotFoundError:
        return Draft()
    return Draft(
        {row[0]: Source(*row) for row in said["added"]},
        {row[0]: File(row[0], row[1], row[2], link=row[3]) for row in said["links"]},
        set(said["removed"]),
        stamp,
    )


@contextmanager
def changed(id: str) -> Iterator[Draft]:
    """The draft, for one program at a time, and written at the end if nothing went wrong."""
    with _locked(id) as file:
        draft = read(id)
        yield draft
        if draft.empty:
            file.unlink(missing_ok=True)
            return
        said = {
            "added": [
                (s.path, s.file, s.size, s.changed, s.executable) for s in draft.added.values()
            ],
            "links": [[f.path, f.size, f.hash, f.link] for f in draft.links.values()],
            "removed": sorted(draft.removed),
        }
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(said))
        os.replace(partial, file)


def sent(id: str, before: Draft) -> None:
    """Take out of the draft what was sent, and leave what somebody has added meanwhile."""
    with _locked(id) as file:
        # Of a million files it takes seconds to see that nobody has.
        if file.exists() and _stamp(file) == before.stamp:
            file.unlink()
            return
    with changed(id) as draft:
        draft.added = {p: s for p, s in draft.added.items() if before.added.get(p) != s}
        draft.links = {p: f for p, f in draft.links.items() if before.links.get(p) != f}
        draft.removed -= before.removed


async def change(id: str, act: Callable[[Draft], T]) -> T:
    """Do something to the draft; others may have to be waited for, and it may be large."""

    def work() -> T:
        with changed(id) as draft:
            return act(draft)

    return await asyncio.to_thread(work)


def forget(id: str) -> None:
    for file in (_file(id), _file(id).with_suffix(".lock")):
        with contextlib.suppress(OSError):
            file.unlink()


@contextmanager
def _locked(id: str) -> Iterator[Path]:
    file = _file(id)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield file


def _stamp(file: Path | int) -> tuple[int, int]:
    about = os.stat(file)
    return about.st_ino, about.st_mtime_ns


def _file(id: str) -> Path:
    return settings().home_path / "drafts" / f"{id}.json"
