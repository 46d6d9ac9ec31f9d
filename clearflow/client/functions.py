"""Functions that become tasks: where they are found again, and how their arguments travel."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from clearflow.client import outbox
from clearflow.client.later import Later
from clearflow.errors import Usage
from clearflow.words.parameters import KWARGS

if TYPE_CHECKING:
    import inspect
    import shlex

    from clearflow.client import packing
    from clearflow.words import references
else:
    inspect = Later("inspect")
    shlex = Later("shlex")
    packing = Later("clearflow.client.packing")
    references = Later("clearflow.words.references")


_HINT = "put it at the top level of a file, under a name of its own"


class Keeper(Protocol):
    """A task, as far as it keeps objects."""

    id: str

    def is_main_task(self) -> bool: ...

    def upload_artifact(self, name: str, artifact_object: Any) -> bool: ...

    @property
    def artifacts(self) -> Mapping[str, Any]: ...


def file_and_name(function: Callable[..., Any]) -> tuple[str, str]:
    """The file of a function and its name there. Raises Usage for one nobody else could find."""
    inner = inspect.unwrap(function)
    if isinstance(inner, functools.partial) or not inspect.isfunction(inner):
        raise Usage(f"a task runs a function, and not {function!r}", hint=_HINT)
    name = inner.__qualname__
    if "<" in name:
        what = "a lambda" if "<lambda>" in name else f"defined inside {name.partition('.')[0]}()"
        raise Usage(f"the function {name!r} is {what}: a task cannot find it", hint=_HINT)
    file = inspect.getsourcefile(inner)
    if file is None or not os.path.isfile(file):
        raise Usage(f"the function {name!r} is not defined in a file", hint=_HINT)
    return os.path.realpath(file), name


def located(function: Callable[..., Any]) -> dict[str, str]:
    """Where a function is: its file beside this program's, and its name there.

    Raises Usage for one that no other program could find.
    """
    file, name = file_and_name(function)
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None:
        raise Usage(f"the function {name!r} is not defined in a file", hint=_HINT)
    home = os.path.dirname(os.path.realpath(main))
    return {"file": os.path.relpath(file, home).replace(os.sep, "/"), "name": name}


def first_argument(function: Callable[..., Any]) -> str | None:
    """The name of the first one that can be given by name; None without one."""
    for parameter in inspect.signature(inspect.unwrap(function)).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            return parameter.name
    return None


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise Usage for arguments that a function does not take, or lacks."""
    try:
        inspect.signature(inspect.unwrap(function)).bind(**given)
    except TypeError as error:
        name = getattr(function, "__name__", function)
        raise Usage(f"the function {name!r}: {error}") from None


def program(
    script: str,
    module: str | None,
    function: Callable[..., Any] | str | None,
    options: Sequence[tuple[str, str]],
    returns: Sequence[str] | str | None,
    kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """What a task is to run: a script, a module, or a function. Raises Usage when that is unclear.

    What stands behind a script on its command line are for a function the names of its results.
    """
    name = ""
    if callable(function):
        check_arguments(function, kwargs)
        script, name = file_and_name(function)
    elif function is not None:
        name = function
    if bool(script) == bool(module):
        raise Usage("create a task of which script?", hint='script="train.py", or module=')
    words = [word for key, value in options for word in (f"--{key}", str(value))]
    if name and (module or words):
        raise Usage(f"the function {name!r} takes function_kwargs, and no command line")
    if name:
        words = [returns] if isinstance(returns, str) else list(returns or ())
    ran, *more = shlex.split(module or "") or [""]
    return {"script": str(script), "module": ran, "function": name, "arguments": [*more, *words]}


def plain(kwargs: Mapping[str, Any]) -> bool:
    """Whether JSON gives these arguments back as they are."""
    try:
        return bool(json.loads(json.dumps(kwargs)) == kwargs)
    except (TypeError, ValueError):
        return False


def as_parameters(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a function as the parameters of its task."""
    return {KWARGS: dict(kwargs)}


def keep(task: Keeper, name: str, thing: Any) -> None:
    """Store an object with a task; text is text, also where there is a file of this name."""
    if isinstance(thing, str):
        packed = packing.Packed("string", "text.txt", thing.encode(), thing)
        outbox.outbox(task.id, task.is_main_task()).item(**packed.item(name, None))
    else:
        task.upload_artifact(name, thing)


def carried(task: Keeper, name: str, value: Any) -> Any:
    """A value as JSON can carry it; any other object in it travels as an artifact of the task."""
    if isinstance(value, Mapping):
        return {str(k): carried(task, f"{name}.{k}", v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [carried(task, f"{name}.{n}", v) for n, v in enumerate(value)]
    if value is None or isinstance(value, (str, int, float)):
        return value
    keep(task, name, value)
    task.artifacts  # noqa: B018 - until it has arrived
    return references.artifact(task.id, name)
