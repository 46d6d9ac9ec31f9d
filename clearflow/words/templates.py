"""Values that are filled in when something fires: by the clock, or by an event.

    ${schedule.date}              the whole value: keeps the type of what it stands for
    run of ${schedule.date}       a part of a text
    ${schedule.time:%Y/%m}        a moment or a date, in the form that strftime knows
    $${not.this}                  ${not.this}, as it stands

Also used inside of tasks, so it keeps to Python 3.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from clearflow.errors import Usage

_PATTERN = re.compile(r"(\$?)\$\{([^{}]*)\}")


def references(value: Any) -> Iterator[str]:
    """The dotted names in a value, however deep, without their forms."""
    if isinstance(value, str):
        for escaped, inner in _PATTERN.findall(value):
            if not escaped:
                yield _split(inner)[0]
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from references(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from references(each)


def check(value: Any, known: Mapping[str, Any]) -> None:
    """Raise Usage for a reference to what there will not be.

    `known` has a collection of names for each word in front of the dot; a name in there that ends
    with a dot stands for all that begin so.
    """
    for name in references(value):
        head, _, rest = name.partition(".")
        names = known.get(head)
        if names is None or not any(
            rest.startswith(each) and rest != each if each.endswith(".") else rest == each
            for each in names
        ):
            there = [f"${{{head}.{n}}}" for head, names in known.items() for n in names]
            raise Usage(
                f"nobody knows what ${{{name}}} stands for",
                hint="there are " + ", ".join(t.replace(".}", ".…}") for t in there),
            )


def filled(value: Any, context: Mapping[str, Any]) -> Any:
    """The value with what its references stand for, looked up in nested mappings.

    A reference that stands alone keeps its type. Raises Usage for one that is not there.
    """
    if isinstance(value, str):
        whole = _PATTERN.fullmatch(value)
        if whole and not whole.group(1):
            name, form = _split(whole.group(2))
            found = lookup(name, context)
            return _formed(found, form, name) if form else _plain(found)
        return _PATTERN.sub(lambda m: _part(m, context), value)
    if isinstance(value, Mapping):
        return {key: filled(each, context) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(each, context) for each in value]
    return value


def lookup(name: str, context: Mapping[str, Any]) -> Any:
    """What a dotted name stands for; names in the context may have dots themselves."""
    found, rest = _walk(context, name)
    if not found:
        raise Usage(
            f"nobody knows what ${{{name}}} stands for",
            hint="there are " + ", ".join(f"${{{each}}}" for each in _names(context)),
        )
    return rest


def _walk(place: Any, name: str) -> tuple[bool, Any]:
    if not isinstance(place, Mapping):
        return False, None
    if name in place:
        return True, place[name]
    words = name.split(".")
    for size in range(len(words) - 1, 0, -1):
        head = ".".join(words[:size])
        if head in place:
            found, value = _walk(place[head], ".".join(words[size:]))
            if found:
                return True, value
    return False, None


def _names(context: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in context.items():
        if isinstance(value, Mapping) and value:
            yield from _names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _split(inner: str) -> tuple[str, str]:
    """The name and the form, of which only one that begins with % is one: names have colons."""
    name, colon, form = inner.strip().partition(":%")
    return name.strip(), f"%{form}" if colon else ""


def _part(match: re.Match[str], context: Mapping[str, Any]) -> str:
    if match.group(1):
        return match.group(0)[1:]
    name, form = _split(match.group(2))
    found = lookup(name, context)
    if form:
        return str(_formed(found, form, name))
    return "" if found is None else str(_plain(found))


def _formed(value: Any, form: str, name: str) -> Any:
    if not isinstance(value, date):
        raise Usage(f"${{{name}}} is no date: it has no form {form!r}")
    return value.strftime(form)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return value.isoformat() if isinstance(value, date) else value
