"""The results of a task: what it reports, and what was reported, under ClearML's names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearflow.client import door, live, outbox, spooling
from clearflow.client.later import Later
from clearflow.client.logger import Logger
from clearflow.client.models import InputModel, ModelsList, OutputModel
from clearflow.client.values import Values
from clearflow.errors import Usage

if TYPE_CHECKING:
    import shutil

    from clearflow.client import packing
else:
    shutil = Later("shutil")
    packing = Later("clearflow.client.packing")


SUMMARY = "Summary"
_SAMPLES = 5000


class Artifact:
    """A task's artifact; its content is fetched when it is asked for."""

    def __init__(self, task: str, about: Mapping[str, Any]) -> None:
        self._task, self._about = task, about

    def __repr__(self) -> str:
        return f"Artifact({self.name!r}, {self.type}, {self.size} bytes)"

    @property
    def name(self) -> str:
        return str(self._about["name"])

    @property
    def type(self) -> str:
        """string, JSON, numpy, pandas, image, pickle, file, archive (a folder) or media."""
        return str(self._about["type"])

    @property
    def size(self) -> int:
        """In bytes."""
        return int(self._about["size"])

    @property
    def hash(self) -> str:
        """SHA-256 of the content."""
        return str(self._about["hash"])

    @property
    def url(self) -> str:
        """Its address, of a task that keeps its results at one; else what names it here."""
        return str(self._about["url"] or f"clearflow-artifact://{self._task}/{self.name}")

    @property
    def preview(self) -> str:
        return str(self._about["preview"])

    @property
    def timestamp(self) -> str:
        """When it was uploaded, as ISO 8601."""
        return str(self._about["created"])

    @property
    def metadata(self) -> dict[str, Any]:
        """What was said about it, by name."""
        return dict(self._about["metadata"])

    def get(
        self,
        force_download: bool = False,
        deserialization_function: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """The object as it was; for files and folders the path of a copy.

        What was pickled is made by the code that the pickle names: trust whoever ran the task.
        """
        file = self._fetched()
        if deserialization_function is not None:
            return deserialization_function(file.read_bytes())
        return packing.unpack(self.type, file)

    def get_local_copy(self, extract_archive: bool = True, **unused: Any) -> str:
        """The path of a copy of its file; of a folder, with all that is in it."""
        return str(packing.local_copy(self.type, self._fetched(), extract_archive))

    def _fetched(self) -> Path:
        """Its file, fetched piece by piece."""
        target = packing.place_for(str(self._about["file"]))
        return spooling.fetched(target, "artifact", task=self._task, name=self.name)


class Results(Values, ABC):
    """The part of a task that comes of running it."""

    @abstractmethod
    def is_main_task(self) -> bool:
        """Whether this program is that task."""

    def get_logger(self) -> Logger:
        """What reports scalars, plots and text to this task."""
        return Logger(self.id, self.is_main_task())

    def _ask(self, verb: str, **arguments: Any) -> Any:
        outbox.flush()
        return door.ask(verb, task=self.id, **arguments)

    # -- artifacts ----------------------------------------------------------------------------

    def upload_artifact(
        self,
        name: str,
        artifact_object: Any,
        metadata: Mapping[str, Any] | None = None,
        delete_after_upload: bool = False,
        auto_pickle: bool | None = None,
        preview: Any = None,
        wait_on_upload: bool = False,
        extension_name: str | None = None,
        serialization_function: Callable[[Any], bytes] | None = None,
        **unused: Any,
    ) -> bool:
        """Keep an object with the task: a file or folder by its path, or any object.

        Text, what JSON gives back as it was, arrays, data frames and images are stored in formats
        of their own, all else is pickled. Another one of the same name takes its place. It is sent
        in the background, unless `wait_on_upload`.

        More than 16 MB go to the store, and all of a task with an `output_uri` there, before this
        returns. Raises Usage for what cannot be
        stored, Refused when there is no way to the store.
        """
        if serialization_function is not None:
            content = serialization_function(artifact_object)
            packed = packing.Packed("custom", f"artifact{extension_name or ''}", content)
        else:
            packed = packing.pack(name, artifact_object, auto_pickle is not False)
        item = packed.item(name, metadata)
        if preview is not None:
            item["preview"] = str(preview)[:1000]
        if packed.large or isinstance(spooling.outputs.get(self.id), str):
            where = f"artifacts/{name}/{packed.file}"
            item["spooled"], item["content"] = spooling.spooled(packed, self.id, where), ""
        outbox.outbox(self.id, self.is_main_task()).item(**item)
        if delete_after_upload and packed.type in {"file", "archive"}:
            path = Path(artifact_object)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if wait_on_upload:
            self._ask("artifacts")
        return True

    def register_artifact(
        self,
        name: str,
        artifact: Any,
        metadata: Mapping[str, Any] | None = None,
        uniqueness_columns: Any = True,
    ) -> None:
        """Keep a data frame, dictionary, list or set with the task, as it is at any time.

        It is looked at every two seconds, less often if that takes long, and uploaded again when
        it has changed; for the last time when the task ends. `uniqueness_columns` is taken as
        ClearML has it, where it counts for a preview. Raises Usage for other objects.
        """
        live.follow(self.id, name, artifact, metadata, self.upload_artifact)

    def unregister_artifact(self, name: str) -> None:
        """Leave a registered artifact as it is now. Raises Usage for one that is not registered."""
        live.look(self.id)
        live.forget(self.id, name)

    def get_registered_artifacts(self) -> dict[str, Any]:
        """The objects that are registered, by name."""
        return live.followed(self.id)

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """What was uploaded, by name."""
        found = self._ask("artifacts")
        return {about["name"]: Artifact(self.id, about) for about in found}

    # -- models -------------------------------------------------------------------------------

    def upload_model(
        self,
        model_path: str | Path,
        name: str | None = None,
        framework: str | None = None,
        tags: str | Sequence[str] | None = None,
        comment: str | None = None,
        iteration: int | None = None,
        **more: Any,
    ) -> OutputModel:
        """Store a file, or a folder, as a model of this task: its last weights, if there is one.

        The name is the file's without one. Further arguments are those of `OutputModel`. Raises
        Usage for a file that is not there, Refused when the store is not reached.
        """
        title = name or Path(model_path).stem
        said: dict[str, Any] = {"name": title, "framework": framework}
        said |= {"tags": tags, "comment": comment}
        model = OutputModel(self, **said, **more)
        model.update_weights(model_path, iteration=iteration)
        return model

    def update_output_model(
        self,
        model_path: str | Path,
        name: str | None = None,
        comment: str | None = None,
        tags: Sequence[str] | None = None,
        model_name: str | None = None,
        iteration: int | None = None,
        auto_delete_file: bool = False,
    ) -> str:
        """As `upload_model`, under ClearML's name; the address of the weights."""
        made = self.upload_model(
            model_path, model_name or name, tags=tags, comment=comment, iteration=iteration
        )
        if auto_delete_file:
            Path(model_path).unlink()
        return made.url

    def set_input_model(
        self, model_id: str | None = None, model_name: str | None = None, name: str | None = None
    ) -> None:
        """A model, by its id or its name, is an input of this task."""
        InputModel(model_id, name=model_name).connect(self, name)

    @property
    def models(self) -> dict[str, ModelsList]:
        """Its models: `input` those that it took in, `output` those that it made, first ones first.

        Each is a list; a name instead of a number means the last one of this name.
        """
        found = door.ask("model.of", task=self.id)
        return {which: ModelsList.of(seen) for which, seen in found.items()}

    def get_models(self) -> dict[str, ModelsList]:
        return self.models

    @property
    def output_models_id(self) -> dict[str, str]:
        """The ids of the models that it made, by name."""
        return {model.name: model.id for model in self.models["output"]}

    # -- scalars ------------------------------------------------------------------------------

    def get_reported_scalars(
        self, max_samples: int = 0, x_axis: str = "iter"
    ) -> dict[str, dict[str, dict[str, Any]]]:
        """The scalars by title and series: `{"name": series, "x": iterations, "y": values}`.

        At most `max_samples` of each (5,000 without it), chosen so that the curve looks the same.
        """
        if x_axis != "iter":
            raise Usage(f"scalars are kept by iteration, not by {x_axis!r}", hint='x_axis="iter"')
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for title, series, x, y in self._ask("scalars", most=max_samples or _SAMPLES):
            curve = {"name": series, "x": x, "y": [float(v) for v in y]}
            found.setdefault(title, {})[series] = curve
        return found

    def get_last_scalar_metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """The last, smallest and largest value of each scalar, by title and series."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for title, series, last, low, high, _ in self._ask("last"):
            numbers = {"last": float(last), "min": float(low), "max": float(high)}
            found.setdefault(title, {})[series] = numbers
        return found

    def get_last_iteration(self) -> int:
        """The last iteration of any scalar; 0 before there is one."""
        return max((int(each[5]) for each in self._ask("last")), default=0)

    def get_reported_single_values(self) -> dict[str, float]:
        """The single values by name."""
        return {each[1]: float(each[2]) for each in self._ask("last") if each[0] == SUMMARY}

    def get_reported_single_value(self, name: str) -> float | None:
        """One of them; None when it was not reported."""
        return self.get_reported_single_values().get(name)
