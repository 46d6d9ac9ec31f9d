"""What schedules and triggers may say about the task that they launch. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from clearflow.errors import Usage
from clearflow.words import parameters
from clearflow.words.names import OF_LAUNCHES, slug
from clearflow.words.scripts import ARGUMENTS

_OVERRIDES = {
    "container.image": "image",
    "container.arguments": "docker_args",
    "container.setup_shell_script": "setup_script",
}
"""ClearML's words for what a task asks of its machine."""


def key_tag(key: str) -> str:
    """The tag of the task that a launch with this unique key has made."""
    return f"{OF_LAUNCHES[0]}{slug(key, 12)}"


def origin_tag(origin: str) -> str:
    """The tag of all tasks that one schedule, or one trigger, has launched."""
    return f"{OF_LAUNCHES[1]}{slug(origin, 12)}"


def wanted(values: Mapping[str, Any], flow: bool) -> dict[str, Any]:
    """Parameters as they are stored, from flat names such as `General/lr`.

    A name without a section is in General; of a `flow` it is that of an argument.
    """
    plain = {name: value for name, value in values.items() if flow and "/" not in name}
    deep = {name: value for name, value in values.items() if name not in plain}
    return {**plain, **parameters.nested(deep)}


def overrides(said: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Job variables from `task_overrides`. Raises Usage for a word that nobody knows."""
    found = {_OVERRIDES.get(word, word): value for word, value in said.items()}
    for word in said:
        if _OVERRIDES.get(word, word) not in known:
            raise Usage(
                f"a task has no {word!r} that could be overridden",
                hint="there are " + ", ".join([*_OVERRIDES, *known]),
            )
    return found


def check_parameters(said: Collection[str], has: Mapping[str, Any], task: str) -> None:
    """Raise Usage for a flat name that the parameters of a script do not have.

    A script that has never run does not know its parameters yet: it takes any.
    """
    sections = {name: value for name, value in has.items() if name != ARGUMENTS}
    if not sections:
        return
    flat = parameters.flat(sections)
    groups = {
        "/".join(words[:size])
        for words in (name.split("/") for name in flat)
        for size in range(1, len(words))
    }
    names = [n if "/" in n else f"{parameters.GENERAL}/{n}" for n in said]
    check_names(names, {*flat, *groups}, task)


def check_names(said: Collection[str], has: Collection[str], task: str) -> None:
    """Raise Usage for a name that is not among those there are."""
    for name in said:
        if name not in has:
            near = difflib.get_close_matches(name, has, 1)
            there = f"did you mean {near[0]!r}?" if near else f"it has: {_listed(has)}"
            raise Usage(f"{task} has no parameter {name!r}", hint=there)


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:20]) or "none"
