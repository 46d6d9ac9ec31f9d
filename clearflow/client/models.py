"""The models that tasks start from, and those that they make, under ClearML's names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.later import Later
from clearflow.client.model import Model, listed, own_task
from clearflow.errors import Usage
from clearflow.words.parameters import plain

if TYPE_CHECKING:
    from typing import Self

    from clearflow.client import packing, spooling
else:
    packing = Later("clearflow.client.packing")
    spooling = Later("clearflow.client.spooling")

_SECTION = "Models"


class InputModel(Model):
    """A model that a task starts from."""

    def __init__(
        self,
        model_id: str | None = None,
        name: str | None = None,
        project: str | None = None,
        only_published: bool = False,
        tags: str | Sequence[str] | None = None,
    ) -> None:
        """By its id, or the latest that fits. Raises NotFound when there is none."""
        if model_id is None:
            if not (name or project or tags):
                raise Usage("which model?", hint="its id, or its name and project")
            asked = {"name": name, "project": project, "only_published": only_published}
            model_id = str(door.ask("model.find", tags=listed(tags), **asked)["id"])
        else:
            model_id = str(door.ask("model.get", id=model_id)["id"])
        super().__init__(model_id)

    @classmethod
    def import_model(
        cls,
        weights_url: str,
        config_text: str | None = None,
        config_dict: Mapping[str, Any] | None = None,
        label_enumeration: Mapping[str, int] | None = None,
        name: str | None = None,
        project: str | None = None,
        tags: str | Sequence[str] | None = None,
        comment: str | None = None,
        framework: str | None = None,
        is_package: bool = False,
    ) -> InputModel:
        """A model whose weights lie at an address of somebody else's; nothing is fetched."""
        about = {
            "url": weights_url,
            "design": _design(config_text, config_dict),
            "labels": plain(dict(label_enumeration)) if label_enumeration else None,
            "comment": comment,
            "framework": framework,
        }
        title = name or weights_url.rstrip("/").rpartition("/")[2]
        asked = {"name": title, "project": project, "tags": listed(tags), "about": about}
        return cls(str(door.ask("model.create", by_task=own_task(), **asked)["id"]))

    def connect(
        self, task: Any = None, name: str | None = None, ignore_remote_overrides: bool = False
    ) -> None:
        """Make it an input of a task, of this program's without one.

        In the task of this program it is the parameter `Models/<name>`, which a clone may have
        another model in: then this is that model. Raises Usage without a task.
        """
        of = getattr(task, "id", task) or own_task()
        if of is None:
            raise Usage("connect it to which task?", hint="Task.init() makes this program one")
        if of == own_task():
            key = name or self.name.replace("/", "_")
            stored = door.ask("connect", section=_SECTION, values={key: self.id})
            other = str(stored.get(key) or self.id)
            if other != self.id and not ignore_remote_overrides:
                self._id = str(door.ask("model.get", id=other)["id"])
        door.ask("model.use", id=self.id, by_task=of)


class OutputModel(Model):
    """A model that a task makes. It exists once it has weights, or its id is asked for."""

    def __init__(
        self,
        task: Any = None,
        config_text: str | None = None,
        config_dict: Mapping[str, Any] | None = None,
        label_enumeration: Mapping[str, int] | None = None,
        name: str | None = None,
        tags: str | Sequence[str] | None = None,
        comment: str | None = None,
        framework: str | None = None,
        base_model_id: str | None = None,
        project: str | None = None,
        datasets: Sequence[Any] = (),
    ) -> None:
        """Of a task, of this program's without one; outside of tasks it needs a project.

        Args:
            task: the task that makes it. Of one task and one name there is one model.
            config_text: what describes its design, or `config_dict`.
            label_enumeration: numbers by the names of classes.
            name: the task's without one.
            tags: to find it by.
            comment: for people.
            framework: such as PyTorch.
            base_model_id: the model that it was made from.
            datasets: what it was trained on, besides what the task has got with an alias.
        """
        super().__init__("")
        self._maker = getattr(task, "id", task) or own_task()
        if self._maker is None and not (project and name):
            raise Usage(
                "a model outside of any task needs a name and a project",
                hint="Task.init() makes this program a task",
            )
        self._title, self._project, self._labels = name, project, listed(tags)
        self._datasets = [str(getattr(each, "id", each)) for each in datasets]
        self._about: dict[str, Any] = {
            "design": _design(config_text, config_dict),
            "labels": plain(dict(label_enumeration)) if label_enumeration else None,
            "comment": comment,
            "framework": framework,
            "base": base_model_id,
        }

    @property
    def id(self) -> str:
        if not self._id:
            self._make({})
        return self._id

    def _make(self, more: Mapping[str, Any]) -> None:
        """Have it exist, with all that is known by now."""
        asked = {
            "name": self._title or _name_of(self._maker),
            "project": self._project,
            "by_task": self._maker,
            "tags": self._labels,
            "about": {**self._about, **more},
            "datasets": self._datasets,
        }
        self._id = str(door.ask("model.create", **asked)["id"])

    def _say(self, about: Mapping[str, Any]) -> None:
        """Say it, at once or when it comes to exist."""
        if self._id:
            door.ask("model.note", id=self._id, about=about, by_task=self._maker)
        else:
            self._about.update(about)

    def update_weights(
        self,
        weights_filename: str | Path | None = None,
        upload_uri: str | None = None,
        target_filename: str | None = None,
        auto_delete_file: bool = False,
        register_uri: str | None = None,
        iteration: int | None = None,
        update_comment: str | None = None,
        is_package: bool = False,
        **unused: Any,
    ) -> str:
        """Store a file, or a folder, as its weights; the address of them.

        `register_uri` names an address of somebody else's instead. Weights that the store has are
        not sent again. Raises Usage for a file that is not there, Refused for a model that is
        published, and when the store is not reached.
        """
        if (weights_filename is None) == (register_uri is None):
            raise Usage("weights are a file, or an address that is registered")
        said: dict[str, Any] = {"iteration": iteration, "comment": update_comment}
        if register_uri is not None:
            said["url"] = register_uri
        else:
            path = Path(str(weights_filename)).expanduser()
            if not path.exists():
                raise Usage(f"there is no file {path}")
            packed = packing.pack(path.name, path)
            where = f"models/{self._title or 'model'}/{target_filename or packed.file}"
            said |= {"type": packed.type, "file": target_filename or packed.file}
            said |= {"size": packed.size, "content": spooling.spooled(packed, self._maker, where)}
        said = {key: value for key, value in said.items() if value is not None}
        if self._id:
            self._say(said)
        else:
            self._make(said)
        if auto_delete_file and weights_filename is not None:
            Path(weights_filename).unlink()
        return self.url

    def update_weights_package(
        self, weights_path: str | Path, iteration: int | None = None, **unused: Any
    ) -> str:
        """Store all that is in a folder as its weights; the address of them."""
        return self.update_weights(weights_path, iteration=iteration)

    def update_labels(self, labels: Mapping[str, int]) -> None:
        self._say({"labels": plain(dict(labels))})

    def update_design(
        self, config_text: str | None = None, config_dict: Mapping[str, Any] | None = None
    ) -> bool:
        self._say({"design": _design(config_text, config_dict)})
        return True

    def set_name(self, name: str) -> None:
        """Raises Usage once it exists."""
        if self._id:
            raise Usage("a model keeps its name")
        self._title = name

    def connect(self, task: Any, name: str | None = None, **unused: Any) -> None:
        """Have another task be its maker. Raises Usage once it exists."""
        if self._id:
            raise Usage("a model keeps the task that made it")
        self._maker, self._title = getattr(task, "id", task), name or self._title


class ModelsList(list[Model]):
    """Models in their order; a name instead of a number means the last one of this name."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        found = [model for model in self if model.name == key]
        if not found:
            raise KeyError(key)
        return found[-1]

    def keys(self) -> list[str]:
        return [model.name for model in self]

    @classmethod
    def of(cls, seen: Sequence[Mapping[str, Any]]) -> Self:
        return cls(Model(str(each["id"])) for each in seen)


def _name_of(task: str | None) -> str:
    return str(door.ask("describe", task=task)["name"])


def _design(text: str | None, values: Mapping[str, Any] | None) -> str | None:
    return json.dumps(plain(dict(values))) if values is not None else text
