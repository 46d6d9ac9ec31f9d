"""Calls one function of a file: how a task that is a function runs.

    python -m clearflow.client.calling FILE FUNCTION [NAME OF A RESULT …]

Its arguments are the section `kwargs` of the task's parameters, in which `artifact:<task>/<name>`
stands for an object; what it returns are artifacts of the task.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from clearflow.client import outbox
from clearflow.client.functions import keep
from clearflow.client.task import Task
from clearflow.errors import ClearflowError, NotFound, Usage
from clearflow.words.parameters import KWARGS, cast
from clearflow.words.references import artifact_of
from clearflow.words.scripts import CALLING

RESULT = "return_object"


_calling = False


def in_function() -> bool:
    """Whether this process is a task that calls a function."""
    return _calling


def load(file: str) -> ModuleType:
    """A file as the module of its name; what was pickled in a program of it is found there."""
    name = os.path.splitext(os.path.basename(file))[0]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise NotFound(f"there is no file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = sys.modules["__main__"] = module
    spec.loader.exec_module(module)
    return module


def function_of(module: ModuleType, name: str) -> Callable[..., Any]:
    """The function of this name, without what decorators have put around it."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise NotFound(f"{module.__name__} has no function {name!r}")
    inner: Callable[..., Any] = inspect.unwrap(found)
    return inner


def fetched(value: Any) -> Any:
    """An argument with the objects that it stands for, however deep."""
    where = artifact_of(value)
    if where is not None:
        task, name = where
        known = Task.get_task(task_id=task).artifacts
        if name not in known:
            has = ", ".join(known) or "none"
            raise NotFound(f"the task {task} has no artifact {name!r}", hint=f"it has: {has}")
        return known[name].get()
    if isinstance(value, Mapping):
        return {key: fetched(each) for key, each in value.items()}
    if isinstance(value, list):
        return [fetched(each) for each in value]
    return value


def arguments(function: Callable[..., Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the function wants them; a number that was typed as text is one again."""
    known = inspect.signature(function).parameters
    found = {}
    for name, value in stored.items():
        like = known[name].default if name in known else None
        if isinstance(value, str) and isinstance(like, (bool, int, float)):
            try:
                value = cast(value, like)
            except ValueError:
                kind = type(like).__name__
                raise Usage(f"the parameter {KWARGS}/{name} is {value!r}, not a {kind}") from None
        found[name] = fetched(value)
    return found


def keep_results(task: Task, names: Sequence[str], result: Any) -> None:
    """Store what a function has returned: one object, or as many as there are names."""
    if len(names) <= 1:
        keep(task, names[0] if names else RESULT, result)
        return
    several = list(result) if isinstance(result, (tuple, list)) else [result]
    if len(several) != len(names):
        raise Usage(f"the function returned {len(several)} values and not {len(names)}")
    for name, each in zip(names, several):  # noqa: B905 - Python 3.9
        keep(task, name, each)


def main() -> None:
    """Call the function that the command line names."""
    global _calling
    _calling = True
    file, name, *results = sys.argv[1:]
    sys.argv = [file]
    sys.path[0] = os.path.dirname(file)
    try:
        task = Task.init()
        function = function_of(load(file), name)
        stored = task.get_parameters_as_dict(cast=True).get(KWARGS) or {}
        given = arguments(function, stored)
    except ClearflowError as error:
        raise SystemExit(f"clearflow: {error.message}") from None
    keep_results(task, results, function(**given))
    outbox.flush()


if __name__ == "__main__":
    # The module that others import is another one than this program.
    importlib.import_module(CALLING).main()
