"""A model: weights in the store with what is known of them, under ClearML's names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.later import Later
from clearflow.errors import ClearflowError, NotFound, Usage
from clearflow.words.parameters import plain

if TYPE_CHECKING:
    import tempfile

    from clearflow.client import packing, spooling
else:
    tempfile = Later("tempfile")
    packing = Later("clearflow.client.packing")
    spooling = Later("clearflow.client.spooling")


_COPIES: dict[str, Path] = {}


class Model:
    """A model by its id. What it tells is asked of the server at that moment."""

    def __init__(self, model_id: str) -> None:
        self._id = model_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # -- finding ------------------------------------------------------------------------------

    @classmethod
    def query_models(
        cls,
        project_name: str | None = None,
        model_name: str | None = None,
        tags: str | Sequence[str] | None = None,
        only_published: bool = False,
        include_archived: bool = False,
        max_results: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        framework: str | None = None,
        task: Any = None,
        order_by: str = "-created",
    ) -> list[Model]:
        """All models that fit, the latest first. `model_name` is a regular expression.

        Args:
            tags: any of them; `__$all`, `__$any`, `__$not` and a minus sign as in ClearML.
            metadata: what has to have been said of it, by key.
            task: the one that made it.
            order_by: created, changed, name, project or `metrics.NAME`; a minus sign in front
                for the largest first.
        """
        asked = {
            "project": project_name,
            "pattern": model_name,
            "tags": listed(tags),
            "only_published": only_published,
            "include_archived": include_archived,
            "metadata": plain(dict(metadata or {})),
            "framework": framework,
            "task": getattr(task, "id", task),
            "order": order_by,
        }
        return [cls._of(seen) for seen in door.ask("model.query", limit=max_results, **asked)]

    query = query_models

    @classmethod
    def _of(cls, seen: Mapping[str, Any]) -> Model:
        return Model(str(seen["id"]))

    # -- what it is ---------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._id

    def _see(self) -> dict[str, Any]:
        return dict(door.ask("model.get", id=self.id))

    @property
    def name(self) -> str:
        return str(self._see()["name"])

    @property
    def project(self) -> str:
        return str(self._see()["project"])

    @property
    def tags(self) -> list[str]:
        return list(self._see()["tags"])

    @tags.setter
    def tags(self, value: Sequence[str]) -> None:
        """These tags and no others."""
        wanted, now = listed(value), self.tags
        self.remove_tags([tag for tag in now if tag not in wanted])
        self.add_tags(wanted)

    @property
    def framework(self) -> str | None:
        return _text(self._see()["framework"])

    @property
    def comment(self) -> str:
        return str(self._see()["comment"] or "")

    @property
    def labels(self) -> dict[str, int]:
        """Numbers by the names of classes."""
        return dict(self._see()["labels"] or {})

    @property
    def config_text(self) -> str | None:
        """What describes its design, as text."""
        return _text(self._see()["design"])

    @property
    def config_dict(self) -> dict[str, Any]:
        """What describes its design, if that is JSON."""
        found = self.config_text
        return dict(json.loads(found)) if found else {}

    @property
    def status(self) -> str:
        """created or published."""
        return str(self._see()["status"])

    @property
    def published(self) -> bool:
        return self.status == "published"

    @property
    def archived(self) -> bool:
        return bool(self._see()["archived"])

    @property
    def url(self) -> str:
        """Where its weights are: the address that was registered, or `clearflow-model://<id>`."""
        return str(self._see()["url"] or f"clearflow-model://{self.id}")

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return int(self._see()["size"] or 0)

    @property
    def hash(self) -> str | None:
        """SHA-256 of its weights."""
        return _text(self._see()["content"])

    @property
    def task(self) -> str | None:
        """The id of the task that made it."""
        return _text(self._see()["task"])

    original_task = task

    @property
    def created(self) -> str:
        """When it was made, as ISO 8601."""
        return str(self._see()["created"])

    def get_lineage(self) -> dict[str, Any]:
        """What it was made from and by, and what uses it: task, datasets, base and used_by."""
        return dict(door.ask("model.lineage", id=self.id))

    # -- what is said of it -------------------------------------------------------------------

    def get_metadata(self, key: str) -> Any:
        """What was said of it under this key; None when nothing was."""
        return self.get_all_metadata().get(key)

    def get_all_metadata(self) -> dict[str, Any]:
        return dict(self._see()["metadata"])

    def set_metadata(self, key: str, value: Any, v_type: str | None = None) -> bool:
        """Say something of it; also once it is published."""
        return self.set_all_metadata({key: value})

    def set_all_metadata(self, metadata: Mapping[str, Any], replace: bool = False) -> bool:
        if replace:
            raise Usage("what was said of a model stays", hint="set_metadata replaces one value")
        self._note(metadata=plain(dict(metadata)))
        return True

    def get_metrics(self) -> dict[str, float]:
        """What was measured of it, by name."""
        return dict(self._see()["metrics"])

    def report_single_value(self, name: str, value: float) -> None:
        """A number that the model has one of, such as its final score."""
        self._note(metrics={name: float(value)})

    def report_scalar(self, title: str, series: str, value: float, iteration: int = 0) -> None:
        """What was measured last under this title and series: the metric `title/series`."""
        self._note(metrics={f"{title}/{series}": float(value)})

    def add_tags(self, tags: str | Sequence[str]) -> None:
        if wanted := listed(tags):
            self._change("tag", tags=wanted)

    def remove_tags(self, tags: str | Sequence[str]) -> None:
        if wanted := listed(tags):
            self._change("untag", tags=wanted)

    def publish(self) -> bool:
        """Have its weights stay as they are."""
        self._change("publish")
        return True

    def archive(self) -> bool:
        """Put it away: it is found only when that is asked for."""
        self._change("archive")
        return True

    def unarchive(self) -> bool:
        self._change("unarchive")
        return True

    def _note(self, **said: Any) -> None:
        door.ask("model.note", id=self.id, by_task=own_task(), **said)

    def _change(self, what: str, **more: Any) -> None:
        door.ask("model.change", id=self.id, what=what, by_task=own_task(), **more)

    @classmethod
    def remove(cls, model: Model | str, force: bool = False, **unused: Any) -> bool:
        """Delete a model, and its weights unless others have them too.

        Raises Refused for one that is published, unless forced.
        """
        id = model if isinstance(model, str) else model.id
        door.ask("model.delete", id=id, force=force, by_task=own_task())
        return True

    # -- its weights --------------------------------------------------------------------------

    def get_local_copy(
        self,
        extract_archive: bool = True,
        raise_on_error: bool = True,
        force_download: bool = False,
        **unused: Any,
    ) -> str | None:
        """The path of a copy of its weights: a file, or a folder with all that was in it.

        It is fetched once; leave the copy as it is. With `raise_on_error` False it is None when it
        cannot be fetched. Raises NotFound for a model without weights, Refused when they lie on a
        machine that this one does not reach.
        """
        try:
            seen = self._see()
            if not seen["content"]:
                where = f": it is at {seen['url']}" if seen["url"] else ""
                raise NotFound(f"the model {seen['name']!r} has no weights in the store{where}")
            return str(self._copy(seen, extract_archive, force_download))
        except ClearflowError:
            if raise_on_error:
                raise
            return None

    get_weights = get_local_copy

    def get_weights_package(self, return_path: bool = False, **unused: Any) -> Any:
        """The paths of its files; with `return_path` the folder that they are in."""
        copy = self.get_local_copy()
        assert copy is not None
        place = Path(copy)
        if return_path or place.is_file():
            return str(place) if return_path else [str(place)]
        return sorted(str(file) for file in place.rglob("*") if file.is_file())

    def _copy(self, seen: Mapping[str, Any], extract: bool, again: bool) -> Path:
        digest = str(seen["content"])
        known = _COPIES.get(digest)
        if known is None or again or not known.exists():
            folder = Path(tempfile.mkdtemp(prefix="model-"))
            target = folder / (Path(str(seen["file"] or "")).name or "weights")
            known = spooling.fetched(target, "model.piece", id=self.id)
            _COPIES[digest] = known
        copy = known.with_name(f"{known.name}.d")
        if seen["type"] == "archive" and extract and copy.is_dir():
            return copy
        return packing.local_copy(str(seen["type"]), known, extract)


def own_task() -> str | None:
    """The id of the task that this program is; None when it is none."""
    from clearflow.client.task import Task

    task = Task.current_task()
    return None if task is None else task.id


def listed(words: str | Sequence[str] | None) -> list[str]:
    return [words] if isinstance(words, str) else list(words or ())


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
