"""A task's parameters: sections of values, which may be nested, and their flat names.

    {"General": {"lr": 0.1, "model": {"depth": 3}}}   General/lr, General/model/depth

Also used inside of tasks, so it keeps to Python 3.9.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

GENERAL, ARGS = "General", "Args"
KWARGS = "kwargs"  # the section of the arguments of a function
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their flat names; an empty group is a value of its own."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{name}/"))
        else:
            found[name] = value
    return found


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`; a name without a section belongs to General."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        *groups, key = name.split("/") if "/" in name else (GENERAL, name)
        place = found
        for group in groups:
            inner = place.setdefault(group, {})
            if not isinstance(inner, dict):
                inner = place[group] = {}
            place = inner
        place[key] = value
    return found


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with changes in them; groups that both have are merged."""
    found = dict(values)
    for key, value in changes.items():
        old = found.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        found[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return found


def plain(value: Any) -> Any:
    """The value as JSON has it; what JSON does not know by its name or its words."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (int, float)):
        # Also what only behaves like a number, such as numpy's.
        number = int(value) if isinstance(value, int) else float(value)
        return number if number == number and abs(number) != float("inf") else str(number)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(v) for v in value), key=str)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return plain(value.item())
    return str(value)


def cast(value: Any, like: Any) -> Any:
    """A stored value, perhaps typed by a person, as the kind of thing that `like` is.

    Raises ValueError where that makes no sense.
    """
    if isinstance(like, enum.Enum):
        return type(like)[str(value)]
    if isinstance(like, bool):
        return _truth(value)
    if isinstance(like, int):
        number = float(value)
        return int(value) if number == int(number) else number
    if isinstance(like, float):
        return float(value)
    if isinstance(like, str):
        return value if isinstance(value, str) else json.dumps(value)
    if isinstance(like, (list, tuple, set, frozenset)):
        items = read(value) if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            items = [items]
        return type(like)(items)
    if isinstance(like, PurePath):
        return type(like)(value)
    return read(value) if isinstance(value, str) else value


def read(text: str) -> Any:
    """What a person has typed: JSON where it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _truth(value: Any) -> bool:
    if not isinstance(value, str):
        return bool(value)
    word = value.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def shown(value: Any) -> str:
    """A value as text, as ClearML's `get_parameters` gives it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (list, dict)) else str(value)
