"""`Dataset` under ClearML's names: versions of files that every machine gets fast."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clearflow.client import door, packing
from clearflow.client.dataset_files import DatasetFiles, current_task, ignored, listed
from clearflow.client.task import Task
from clearflow.errors import NotFound, Refused, Usage

if TYPE_CHECKING:
    Words = str | Sequence[str] | None
    Datasets = Sequence["Dataset | str"]


class Dataset(DatasetFiles):
    """A version of a dataset by its id.

    A draft takes files, is uploaded, and finalized for good; a new version with it as its parent
    stores only what is different. What is asked of it is looked up at that moment.
    """

    def __init__(self, seen: Mapping[str, Any]) -> None:
        """Not for you: `create` and `get` make one."""
        super().__init__(seen)

    def __repr__(self) -> str:
        return f"Dataset({self.id!r}, {self.project}/{self.name} {self.version})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # -- being there ---------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        dataset_name: str | None = None,
        dataset_project: str | None = None,
        dataset_tags: Words = None,
        parent_datasets: Datasets | None = None,
        use_current_task: bool = False,
        dataset_version: str | None = None,
        output_uri: str | None = None,
        description: str | None = None,
    ) -> Dataset:
        """A new version, which is a draft.

        The name and the project are those of the last parent where they are not said, and the
        project that of this program's task. Without a version the next one is counted up, from
        1.0.0 on. What there is goes to the store of all machines, whatever `output_uri` says; the
        task of this program is noted, with or without `use_current_task`.

        Raises Conflict for a version that there is already, Refused for a parent that is not
        finalized.
        """
        ignored(output_uri=output_uri)
        task = Task.current_task()
        project = dataset_project
        if project is None and not parent_datasets and task is not None:
            project = task.get_project_name()
        asked = {
            "name": dataset_name,
            "project": project,
            "version": dataset_version,
            "tags": listed(dataset_tags),
            "parents": [_id(each) for each in parent_datasets or ()],
            "description": description or "",
        }
        return cls(door.ask("dataset.create", by_task=task and task.id, **asked))

    @classmethod
    def get(
        cls,
        dataset_id: str | None = None,
        dataset_project: str | None = None,
        dataset_name: str | None = None,
        dataset_tags: Words = None,
        only_completed: bool = False,
        only_published: bool = False,
        include_archived: bool = False,
        auto_create: bool = False,
        writable_copy: bool = False,
        dataset_version: str | None = None,
        alias: str | None = None,
        overridable: bool = False,
        **unused: Any,
    ) -> Dataset:
        """A dataset by its id, or the latest that fits everything else.

        The latest is that of the highest version, and one that is finalized comes before a draft.
        `dataset_tags` are as in `Task.get_task`.

        With an `alias` it is a parameter of this program's task, `Datasets/<alias>`; with
        `overridable` too what stands there counts, so that a copy of the task may have another
        one. `auto_create` makes one that is not there, `writable_copy` a new version of it.

        Raises NotFound; Refused for what lies on a machine that this one does not reach.
        """
        other = _stored(alias) if alias is not None and overridable else None
        if other is None:
            found = cls._found(
                auto_create,
                id=dataset_id,
                project=dataset_project,
                name=dataset_name,
                version=dataset_version,
                tags=listed(dataset_tags),
                only_completed=only_completed,
                only_published=only_published,
                include_archived=include_archived,
            )
        else:
            found = cls(door.ask("dataset.get", id=other))
        if alias is not None:
            _used(alias, found.id)
        if not writable_copy:
            return found
        return cls.create(parent_datasets=[found], dataset_tags=found.tags)

    @classmethod
    def _found(cls, auto_create: bool, **wanted: Any) -> Dataset:
        try:
            return cls(door.ask("dataset.get", **wanted))
        except NotFound:
            if not auto_create or wanted["id"]:
                raise
        named = {f"dataset_{key}": wanted[key] for key in ("name", "project", "tags", "version")}
        return cls.create(**named)

    @classmethod
    def list_datasets(
        cls,
        dataset_project: str | None = None,
        partial_name: str | None = None,
        tags: Words = None,
        ids: Sequence[str] | None = None,
        only_completed: bool = True,
        recursive_project_search: bool = True,
        include_archived: bool = True,
    ) -> list[dict[str, Any]]:
        """All that fit, the newest first, as dictionaries: name, project, id, version, tags…"""
        where = "below" if recursive_project_search else "project"
        found = door.ask(
            "dataset.list",
            pattern=partial_name,
            tags=listed(tags),
            only_completed=only_completed,
            include_archived=include_archived,
            **({where: dataset_project} if dataset_project else {}),
        )
        return [dict(each) for each in found if ids is None or each["id"] in ids]

    @classmethod
    def squash(
        cls,
        dataset_name: str,
        dataset_ids: Datasets | None = None,
        dataset_project_name_pairs: Sequence[tuple[str, str]] | None = None,
        output_url: str | None = None,
        dataset_project: str | None = None,
        dataset_version: str | None = None,
    ) -> Dataset:
        """One version, finalized, of what several have; a later one goes before an earlier.

        Nothing is sent, wherever `output_url` is. Its project is that of the first where none is
        said.
        """
        ignored(output_url=output_url)
        pairs = dataset_project_name_pairs or ()
        sources = [_id(each) for each in dataset_ids or ()]
        sources += [cls.get(dataset_project=p, dataset_name=n).id for p, n in pairs]
        project = dataset_project
        if project is None and sources:
            project = cls.get(sources[0]).project
        named = {"name": dataset_name, "project": project or "", "ids": sources}
        task = Task.current_task()
        asked = {**named, "version": dataset_version, "by_task": task and task.id}
        return cls(door.ask("dataset.squash", **asked))

    @classmethod
    def delete(
        cls,
        dataset_id: str | None = None,
        dataset_project: str | None = None,
        dataset_name: str | None = None,
        force: bool = False,
        dataset_version: str | None = None,
        entire_dataset: bool = False,
        **unused: Any,
    ) -> None:
        """Delete a version, or with `entire_dataset` all of a name, and what only they have.

        Raises Refused, unless it is forced, for one that another has as its parent, and for one
        that is published.
        """
        if not entire_dataset:
            one = cls.get(
                dataset_id, dataset_project, dataset_name, dataset_version=dataset_version
            )
            door.ask("dataset.delete", id=one.id, force=force)
            return
        named = cls.list_datasets(dataset_project, None, None, None, False, False)
        mine = [each for each in named if each["name"] == dataset_name]
        if not mine:
            raise NotFound(f"there is no dataset {dataset_project}/{dataset_name}")
        # Children before their parents.
        for each in sorted(mine, key=lambda one: one["created"], reverse=True):
            door.ask("dataset.delete", id=each["id"], force=force)

    # -- what is said of it --------------------------------------------------------------------

    def publish(self, raise_on_error: bool = True) -> bool:
        """It is meant for others, and is not deleted by mistake. Raises Refused for a draft."""
        try:
            self._change(publish=True)
        except Refused:
            if raise_on_error:
                raise
            return False
        return True

    def archive(self) -> None:
        """Put it away: it is found by its id, or with `include_archived`."""
        self._change(archive=True)

    def unarchive(self) -> None:
        self._change(archive=False)

    @property
    def tags(self) -> list[str]:
        self._seen = door.ask("dataset.get", id=self.id)
        return list(self._seen["tags"])

    @tags.setter
    def tags(self, values: Sequence[str]) -> None:
        before, wanted = self.tags, listed(values)
        more = [tag for tag in wanted if tag not in before]
        gone = [tag for tag in before if tag not in wanted]
        self._change(tags=more, untag=gone)

    def add_tags(self, tags: Words) -> None:
        """Others who tag it at the same moment lose nothing."""
        self._change(tags=listed(tags))

    def remove_tags(self, tags: Words) -> None:
        self._change(untag=listed(tags))

    def set_description(self, description: str) -> None:
        self._change(description=description)

    @property
    def description(self) -> str:
        return str(self._seen.get("description") or "")

    def _change(self, **change: Any) -> None:
        self._seen = door.ask("dataset.change", id=self.id, by_task=current_task(), **change)

    def set_metadata(
        self, metadata: Any, metadata_name: str = "metadata", ui_visible: bool = True
    ) -> None:
        """Keep an object with it: a dictionary, a data frame, an array, text, a small file."""
        packed = packing.pack(metadata_name, metadata)
        if packed.large:
            raise Usage("metadata of more than 16 MB are files", hint="add_files takes them")
        content = base64.b64encode(b"".join(packed.pieces())).decode()
        about = {"type": packed.type, "file": packed.file, "preview": packed.preview[:1000]}
        door.ask("dataset.note", id=self.id, name=metadata_name, content=content, **about)

    def get_metadata(self, metadata_name: str = "metadata") -> Any:
        """The object as it was. Raises NotFound."""
        found = door.ask("dataset.noted", id=self.id, name=metadata_name)
        file = packing.place_for(found["file"])
        file.write_bytes(base64.b64decode(found["content"]))
        return packing.unpack(found["type"], file)

    def get_dependency_graph(self) -> dict[str, list[str]]:
        """The ids of its parents, by its own, and so on for each of them."""
        return dict(door.ask("dataset.graph", id=self.id))

    @property
    def name(self) -> str:
        return str(self._seen["name"])

    @property
    def project(self) -> str:
        return str(self._seen["project"])

    @property
    def version(self) -> str:
        return str(self._seen["version"])

    @property
    def task(self) -> str | None:
        """The id of the task that made it."""
        made = self._seen["task"]
        return str(made) if made else None

    @property
    def status(self) -> str:
        """created, finalized or published."""
        self._seen = door.ask("dataset.get", id=self.id)
        return str(self._seen["status"])


def _id(dataset: Dataset | str) -> str:
    return dataset.id if isinstance(dataset, Dataset) else str(dataset)


def _stored(alias: str) -> str | None:
    """The id that a parameter of this program's task says."""
    task = Task.current_task()
    found = task and task.get_parameter(f"Datasets/{alias}")
    return str(found) if found else None


def _used(alias: str, id: str) -> None:
    """Note with this program's task which dataset it used; a flow's parameters are its own."""
    task = Task.current_task()
    if task is None:
        return
    if door.ask("me").get("script", True):
        task.set_parameter(f"Datasets/{alias}", id)
    else:
        task.set_user_properties(**{f"Datasets/{alias}": id})
