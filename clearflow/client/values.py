"""What a task carries besides its code: parameters, configurations, and words about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearflow.client import connecting, door
from clearflow.client.later import Later
from clearflow.errors import Usage
from clearflow.words import parameters as words

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = Later("tempfile")


_PROPERTY, _CONFIGURATION = "clearflow.property.", "clearflow.configuration."
_RESERVED = "arguments"


class Values:
    """The part of a task that can be changed as long as it is a draft."""

    def __init__(self, id: str) -> None:
        self.id = id

    def _see(self) -> dict[str, Any]:
        return dict(door.ask("describe", task=self.id))

    def _change(self, **changes: Any) -> None:
        door.ask("change", task=self.id, **changes)

    # -- parameters ---------------------------------------------------------------------------

    def connect(self, mutable: Any, name: str | None = None) -> Any:
        """Make the values in an object parameters of the task, in the section `name` (General).

        For dictionaries, dataclasses, pydantic models, and objects or classes with attributes.
        Here the task takes the values as they are. In a task that an agent runs, the object takes
        what was stored: the same values, or those that somebody has put into a clone.

        Returns the object, or another one with the values where it cannot be changed. Raises Usage
        for what holds no parameters, and for stored values that do not fit.
        """
        section = name or words.GENERAL
        if section == _RESERVED:
            raise Usage(f"a section cannot be named {section!r}")
        own = connecting.values_of(mutable)
        stored = door.ask("connect", section=section, values=own)
        return connecting.overlaid(mutable, stored)

    def get_parameters(self, cast: bool = False) -> dict[str, Any]:
        """Its parameters by names such as `General/lr`: as text, or with `cast` as they are."""
        found = words.flat(self.get_parameters_as_dict(cast=True))
        return found if cast else {name: words.shown(value) for name, value in found.items()}

    def get_parameters_as_dict(self, cast: bool = False) -> dict[str, Any]:
        """Its parameters by section, nested."""
        found = {k: v for k, v in self._all_parameters().items() if k != _RESERVED}
        return found if cast else dict(_texts(found))

    def get_parameter(self, name: str, default: Any = None, cast: bool = False) -> Any:
        """One parameter by a name such as `General/lr`."""
        return self.get_parameters(cast).get(name if "/" in name else f"General/{name}", default)

    def set_parameters(self, *args: Mapping[str, Any], **kwargs: Any) -> None:
        """Set all parameters, by names such as `General/lr`; others are gone then.

        Raises Refused for a task that has been started.
        """
        self._store(words.nested(_given(args, kwargs)))

    def set_parameters_as_dict(self, dictionary: Mapping[str, Any]) -> None:
        """Set all parameters, by section."""
        self._store(dict(words.plain(dictionary)))

    def update_parameters(self, *args: Mapping[str, Any], **kwargs: Any) -> None:
        """Set some parameters; the others stay."""
        old = self.get_parameters_as_dict(cast=True)
        self._store(words.merged(old, words.nested(_given(args, kwargs))))

    def set_parameter(self, name: str, value: Any) -> None:
        """Set one parameter by a name such as `General/lr`."""
        self.update_parameters({name: value})

    def delete_parameter(self, name: str) -> bool:
        """Remove one parameter; whether it was there."""
        found = words.flat(self.get_parameters_as_dict(cast=True))
        name = name if "/" in name else f"General/{name}"
        if name not in found:
            return False
        del found[name]
        self._store(words.nested(found))
        return True

    def _all_parameters(self) -> dict[str, Any]:
        return dict(self._see()["parameters"])

    def _store(self, sections: Mapping[str, Any]) -> None:
        kept = {k: v for k, v in self._all_parameters().items() if k == _RESERVED}
        self._change(parameters={**kept, **sections})

    def connect_configuration(
        self, configuration: Mapping[str, Any] | str | Path, name: str | None = None
    ) -> Any:
        """Make a dictionary, or a file of text, a configuration of the task.

        Here it is stored. In a task that an agent runs one gets what is stored: a dictionary for
        a dictionary, the path of a file for a path.
        """
        key = name or words.GENERAL
        stored = self._see()["configurations"].get(key) if door.inside() else None
        if isinstance(configuration, Mapping):
            if stored is not None:
                return json.loads(stored)
            self.set_configuration_object(key, config_dict=configuration)
            return configuration
        path = Path(configuration)
        if stored is None:
            self.set_configuration_object(key, config_text=path.read_text())
            return configuration
        copy = Path(tempfile.mkdtemp(prefix="configuration-")) / path.name
        copy.write_text(stored)
        return type(configuration)(copy)

    def get_configuration_object(self, name: str) -> str | None:
        """The text of a configuration; None when there is none of this name."""
        found = self._see()["configurations"].get(name)
        return None if found is None else str(found)

    def set_configuration_object(
        self,
        name: str,
        config_text: str | None = None,
        config_dict: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a configuration: a text, or a dictionary as JSON."""
        text = json.dumps(words.plain(config_dict)) if config_text is None else config_text
        self._change(labels={f"{_CONFIGURATION}{name}": text})

    # -- words about it -----------------------------------------------------------------------

    @property
    def task_id(self) -> str:
        return self.id

    @property
    def name(self) -> str:
        return str(self._see()["name"])

    def rename(self, new_name: str) -> None:
        self._change(name=new_name)

    set_name = rename

    def get_project_name(self) -> str | None:
        found = self._see()["project"]
        return None if found is None else str(found)

    def set_project(self, project_name: str) -> None:
        self._change(project=project_name)

    move_to_project = set_project

    def get_tags(self) -> list[str]:
        return list(self._see()["tags"])

    def set_tags(self, tags: Sequence[str]) -> None:
        """These tags and no others."""
        self._change(tags=[tags] if isinstance(tags, str) else list(tags))

    def add_tags(self, tags: str | Sequence[str]) -> None:
        """These tags too."""
        new = [tags] if isinstance(tags, str) else list(tags)
        old = self.get_tags()
        self.set_tags([*old, *(t for t in new if t not in old)])

    def remove_tags(self, tags: str | Sequence[str]) -> None:
        """These tags no more."""
        gone = [tags] if isinstance(tags, str) else list(tags)
        self.set_tags([tag for tag in self.get_tags() if tag not in gone])

    @property
    def comment(self) -> str:
        return str(self._see()["comment"])

    def set_comment(self, comment: str) -> None:
        self._change(labels={"clearflow.comment": comment})

    def get_progress(self) -> int | None:
        """Percent that are done."""
        found = self._see()["progress"]
        return None if found is None else int(found)

    def set_progress(self, progress: int) -> None:
        """Say how much is done, in percent (0 to 100)."""
        if not 0 <= int(progress) <= 100:
            raise Usage(f"a progress of {progress} is not between 0 and 100")
        self._change(labels={"clearflow.progress": int(progress)})

    def get_user_properties(self) -> dict[str, Any]:
        return dict(self._see()["properties"])

    def set_user_properties(self, **properties: Any) -> None:
        """Keep words or numbers about the task, by name; also while it runs and afterwards."""
        kept = {f"{_PROPERTY}{name}": words.plain(value) for name, value in properties.items()}
        self._change(labels=kept)

    @property
    def parent(self) -> str | None:
        """The id of the task that this one was cloned from."""
        found = self._see()["parent"]
        return None if found is None else str(found)


def _given(args: Sequence[Mapping[str, Any]], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for given in (*args, kwargs):
        found.update({name: words.plain(value) for name, value in given.items()})
    return words.flat(words.nested(found))


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _texts(v) if isinstance(v, Mapping) else words.shown(v) for k, v in values.items()}
