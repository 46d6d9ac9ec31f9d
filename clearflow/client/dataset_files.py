"""The files of a dataset: what goes into a version, and copies of it on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.task import Task
from clearflow.client.watching import watched
from clearflow.errors import Refused
from clearflow.words.environ import PATHS

if TYPE_CHECKING:
    Words = str | Sequence[str] | None
    Place = str | os.PathLike[str]


class DatasetFiles:
    """The part of a dataset that is about its files."""

    def __init__(self, seen: Mapping[str, Any]) -> None:
        self._seen = dict(seen)
        self.id = str(seen["id"])

    def is_final(self) -> bool:
        """Whether it does not change any more."""
        self._seen = door.ask("dataset.get", id=self.id)
        return bool(self._seen["status"] != "created")

    def add_files(
        self,
        path: Place | Sequence[Place],
        wildcard: Words = None,
        local_base_folder: Place | None = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        verbose: bool = False,
        max_workers: int | None = None,
    ) -> int:
        """Take a file, or what is in a folder; how many files. `upload` sends them.

        Paths in the dataset are relative to the folder, or to `local_base_folder`, and below
        `dataset_path`. What the parents have with the same content is not stored again.
        """
        return int(
            door.ask(
                "dataset.add",
                id=self.id,
                paths=[_absolute(each) for each in _several(path)],
                wildcards=listed(wildcard),
                base=local_base_folder and _absolute(local_base_folder),
                folder=dataset_path or "",
                recursive=recursive,
            )
        )

    def add_external_files(
        self,
        source_url: Words,
        wildcard: Words = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        verbose: bool = False,
        max_workers: int | None = None,
        **unused: Any,
    ) -> int:
        """Take files that stay where they are: https://, s3://, gs://, a folder; how many."""
        return int(
            door.ask(
                "dataset.link",
                id=self.id,
                urls=listed(source_url),
                wildcards=listed(wildcard),
                folder=dataset_path or "",
                recursive=recursive,
            )
        )

    def remove_files(self, dataset_path: str, recursive: bool = True, verbose: bool = False) -> int:
        """Take away a file, a folder, or what fits a wildcard; how many files."""
        return int(door.ask("dataset.remove", id=self.id, path=dataset_path))

    def sync_folder(
        self, local_path: Place, dataset_path: str | None = None, verbose: bool = False
    ) -> tuple[int, int, int]:
        """Have it be what that folder is; how many files that removes, adds and changes."""
        asked: dict[str, Any] = {"folder": _absolute(local_path), "inner": dataset_path or ""}
        done = watched("compared", "dataset.sync", id=self.id, **asked)
        return len(done["removed"]), len(done["added"]), len(done["modified"])

    def upload(
        self,
        show_progress: bool = True,
        verbose: bool = False,
        output_url: str | None = None,
        compression: str | None = None,
        chunk_size: int | None = None,
        max_workers: int | None = None,
        **unused: Any,
    ) -> None:
        """Send what was added, with `max_workers` at once; after an interruption what is left.

        There is one store, and parts are cut so that versions share them: `output_url`,
        `compression` and `chunk_size` change nothing.
        """
        ignored(output_url=output_url, compression=compression, chunk_size=chunk_size)
        asked: dict[str, Any] = {"workers": max_workers, "by_task": current_task()}
        watched("sent", "dataset.upload", show=show_progress, id=self.id, **asked)

    def finalize(
        self,
        verbose: bool = False,
        raise_on_error: bool = True,
        auto_upload: bool = False,
    ) -> bool:
        """It is what it is from now on. Raises Refused while something is not uploaded."""
        asked: dict[str, Any] = {"auto_upload": auto_upload, "by_task": current_task()}
        try:
            self._seen = watched("sent", "dataset.finalize", id=self.id, **asked)
        except Refused:
            if raise_on_error:
                raise
            return False
        return True

    def get_local_copy(
        self,
        use_soft_links: bool | None = None,
        part: int | None = None,
        num_parts: int | None = None,
        raise_on_error: bool = True,
        max_workers: int | None = None,
        files: Sequence[str] | None = None,
    ) -> str:
        """The path of a read-only copy, made once on this machine and shared by its tasks.

        With `part` of `num_parts` a share of about the same size as the others; with `files` only
        those: paths, folders, wildcards. `max_workers` fetch at once. Raises Refused for a draft.
        """
        asked: dict[str, Any] = {"part": part, "parts": num_parts, "only": files and list(files)}
        asked["workers"] = max_workers
        return _inside(watched("fetched", "dataset.local", id=self.id, **asked))

    def get_mutable_local_copy(
        self,
        target_folder: Place,
        overwrite: bool = False,
        part: int | None = None,
        num_parts: int | None = None,
        raise_on_error: bool = True,
        max_workers: int | None = None,
    ) -> str:
        """A copy in a folder of one's own. Raises Refused if that is not empty."""
        asked: dict[str, Any] = {"target": _absolute(target_folder), "overwrite": overwrite}
        asked.update(part=part, parts=num_parts, workers=max_workers)
        return _inside(watched("fetched", "dataset.mutable", id=self.id, **asked))

    def list_files(
        self,
        dataset_path: str | None = None,
        recursive: bool = True,
        dataset_id: str | None = None,
    ) -> list[str]:
        """The paths of its files, or those that fit; with `dataset_id` those that both have."""
        only = [dataset_path] if dataset_path else None
        mine = [row[0] for row in door.ask("dataset.files", id=self.id, only=only)]
        if dataset_id is None:
            return mine
        theirs = {row[0] for row in door.ask("dataset.files", id=dataset_id, only=only)}
        return [path for path in mine if path in theirs]

    @property
    def file_entries_dict(self) -> dict[str, dict[str, Any]]:
        """Size, SHA-256 and link of each file, by its path."""
        found = door.ask("dataset.files", id=self.id)
        return {p: {"size": size, "hash": hash, "link": link} for p, size, hash, link in found}

    def list_added_files(self, dataset_id: str | None = None) -> list[str]:
        """The paths that the parents have not, or that dataset."""
        return self._changes(dataset_id, "added")

    def list_modified_files(self, dataset_id: str | None = None) -> list[str]:
        return self._changes(dataset_id, "modified")

    def list_removed_files(self, dataset_id: str | None = None) -> list[str]:
        return self._changes(dataset_id, "removed")

    def _changes(self, other: str | None, what: str) -> list[str]:
        return list(door.ask("dataset.changes", id=self.id, other=other)[what])

    def is_dirty(self) -> bool:
        """Whether it has changes that are not finalized."""
        return not self.is_final() and bool(
            self.list_added_files() or self.list_modified_files() or self.list_removed_files()
        )

    def verify_dataset_hash(
        self,
        local_copy_path: Place | None = None,
        skip_hash: bool = False,
        verbose: bool = False,
        repair: bool = False,
    ) -> list[str]:
        """The files that are not what they should be: in a folder here, or in the store.

        With `repair` the store gets them again, from that folder or from this machine's copy; then
        those are meant that it could not.
        """
        folder = local_copy_path and _absolute(local_copy_path)
        asked: dict[str, Any] = {"folder": folder, "sizes": skip_hash, "repair": repair}
        return list(watched("checked", "dataset.verify", id=self.id, **asked))


def current_task() -> str | None:
    """The id of the task that this program is."""
    task = Task.current_task()
    return task.id if task is not None else None


_told: set[str] = set()


def ignored(**given: Any) -> None:
    """Say once of each option that is given that it changes nothing here."""
    names = [name for name, value in given.items() if value is not None and name not in _told]
    if names:
        _told.update(names)
        print(f"clearflow: {', '.join(names)} changes nothing here: see help()", file=sys.stderr)


def listed(words: Words) -> list[str]:
    return [words] if isinstance(words, str) else [str(each) for each in words or ()]


def _several(paths: Place | Sequence[Place]) -> list[Place]:
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def _absolute(path: Place) -> str:
    """Where that is to whoever moves the files: the supervisor of a container is outside of it."""
    own = os.path.abspath(os.path.expanduser(os.fspath(path)))
    inner = _outside()
    for inside, outside in inner.items():
        if own == inside or own.startswith(inside + "/"):
            return outside + own[len(inside) :]
    if inner:
        raise Refused(
            f"{own} is inside of the container alone", hint="files below the working folder are not"
        )
    return own


def _inside(path: str) -> str:
    """Where that is to this program."""
    for inside, outside in _outside().items():
        if path.startswith(outside + "/"):
            return inside + path[len(outside) :]
    return path


def _outside() -> dict[str, str]:
    return dict(json.loads(os.environ.get(PATHS) or "{}"))
