"""Objects that hold parameters: what is in them, and how other values are put into them.

Dictionaries, dataclasses, pydantic models (1 and 2), and anything else with attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from clearflow.client.later import Later
from clearflow.errors import Usage
from clearflow.words.parameters import cast, plain

if TYPE_CHECKING:
    import dataclasses
else:
    dataclasses = Later("dataclasses")


_NOTHING = object()


def values_of(target: Any) -> dict[str, Any]:
    """What is in an object, by name, as JSON has it. Raises Usage for what holds no values."""
    return {str(name): _plain(value) for name, value in _members(target).items()}


def _plain(value: Any) -> Any:
    return values_of(value) if _is_group(value) else plain(value)


def overlaid(target: Any, stored: Mapping[str, Any], path: str = "") -> Any:
    """The object with the stored values in it, which it takes as the types of its own.

    The same object where that can be changed, else a new one. Raises Usage for a value that does
    not fit.
    """
    members = _members(target)
    names = {str(name): name for name in members}
    changes: dict[Any, Any] = {}
    for key, wanted in stored.items():
        name = names.get(key, key)
        have = members.get(name, _NOTHING)
        if have is _NOTHING:
            if isinstance(target, MutableMapping):
                changes[name] = wanted
        elif _is_group(have) and isinstance(wanted, Mapping):
            inner = overlaid(have, wanted, f"{path}{key}/")
            if inner is not have:
                changes[name] = inner
        elif wanted != plain(have):
            try:
                changes[name] = cast(wanted, have)
            except (TypeError, ValueError, KeyError):
                kind = type(have).__name__
                raise Usage(f"the parameter {path}{key} is {wanted!r}, not a {kind}") from None
    return _changed(target, changes) if changes else target


def _is_model(target: Any) -> bool:
    kind = type(target)
    return hasattr(kind, "model_fields") or hasattr(kind, "__fields__")


def _is_group(value: Any) -> bool:
    data = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return isinstance(value, Mapping) or data or _is_model(value)


def _members(target: Any) -> dict[Any, Any]:
    if isinstance(target, Mapping):
        return dict(target)
    if _is_model(target):
        names = getattr(type(target), "model_fields", None) or type(target).__fields__
        return {name: getattr(target, name) for name in names}
    if dataclasses.is_dataclass(target) and not isinstance(target, type):
        return {f.name: getattr(target, f.name) for f in dataclasses.fields(target)}
    try:
        found = vars(target)
    except TypeError:
        kind = type(target).__name__
        raise Usage(
            f"a {kind} holds no parameters",
            hint="connect a dictionary, a dataclass, a pydantic model or an object with attributes",
        ) from None
    functions = (staticmethod, classmethod, property)
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("_") and not callable(value) and not isinstance(value, functions)
    }


def _changed(target: Any, changes: Mapping[Any, Any]) -> Any:
    if isinstance(target, MutableMapping):
        target.update(changes)
        return target
    if _is_model(target):
        return _changed_model(target, changes)
    if isinstance(target, Mapping):
        return type(target)({**target, **changes})  # type: ignore[call-arg]
    try:
        for name, value in changes.items():
            setattr(target, name, value)
    except dataclasses.FrozenInstanceError:
        return dataclasses.replace(target, **{str(k): v for k, v in changes.items()})
    return target


def _changed_model(target: Any, changes: Mapping[Any, Any]) -> Any:
    """The model checks the values itself."""
    kind = type(target)
    try:
        checked = kind(**{**_members(target), **changes})
    except ValueError as error:
        said = " ".join(str(error).split())
        raise Usage(f"the stored parameters do not fit {kind.__name__}: {said}") from None
    try:
        for name in changes:
            setattr(target, name, getattr(checked, name))
    except (TypeError, ValueError, AttributeError):
        return checked  # a frozen one
    return target
