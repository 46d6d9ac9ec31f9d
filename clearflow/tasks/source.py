"""Where the code of a decorated flow is: what an agent needs to find it again."""

from __future__ import annotations

import inspect
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearflow.errors import Usage

if TYPE_CHECKING:
    from prefect import Flow

_HINT = "put it at the top level of a file, under a name of its own"


@dataclass(frozen=True, slots=True)
class Source:
    """A folder, and the flow in it as `path/to/file.py:name`."""

    folder: str
    entrypoint: str

    @property
    def file(self) -> str:
        return os.path.join(self.folder, self.entrypoint.rpartition(":")[0])


def source(flow: Flow[..., Any]) -> Source:
    """The file and name of a flow; the folder is that of its repository, else of the file.

    Raises Usage for a flow that cannot be found again by file and name.
    """
    file = _file(flow)
    name = _name(flow)
    folder = _repository(file) or file.parent
    return Source(str(folder), f"{file.relative_to(folder).as_posix()}:{name}")


def _file(flow: Flow[..., Any]) -> Path:
    function = inspect.unwrap(flow.fn)
    try:
        found = inspect.getsourcefile(function)
    except TypeError:
        found = None
    path = Path(found).resolve() if found else None
    if path is None or not path.is_file():
        raise Usage(
            f"the flow {flow.name!r} is not defined in a file: an agent cannot find it",
            hint="put it into a file and import it from there, also in a notebook",
        )
    return path


def _name(flow: Flow[..., Any]) -> str:
    """The name under which the flow stands in its module."""
    function = inspect.unwrap(flow.fn)
    qualified: str = function.__qualname__
    if "<lambda>" in qualified:
        raise Usage(f"the flow {flow.name!r} is a lambda: an agent cannot find it", hint=_HINT)
    if "<locals>" in qualified:
        outer = qualified.partition(".<locals>")[0]
        raise Usage(
            f"the flow {flow.name!r} is defined inside {outer}(): an agent cannot find it",
            hint=_HINT,
        )
    if "." in qualified:
        raise Usage(
            f"the flow {flow.name!r} is a method of {qualified.rpartition('.')[0]}: an agent"
            " cannot find it",
            hint=_HINT,
        )
    module = sys.modules.get(function.__module__)
    names = vars(module) if module is not None else {}
    if names.get(qualified) is flow:
        return qualified
    # A variant, such as one made by `with_options`, has another name than its function.
    known = next((name for name, value in names.items() if value is flow), None)
    if known is None:
        raise Usage(
            f"the flow {flow.name!r} has no name in {function.__module__}: an agent cannot find it",
            hint=_HINT,
        )
    return known


def _repository(file: Path) -> Path | None:
    return next((folder for folder in file.parents if (folder / ".git").exists()), None)


def refuse_while_loading(file: str) -> None:
    """Raise Usage when the file that queues is being loaded by an agent, and not run by a person.

    Without this a file that queues its own flow at the top level would do so for ever.
    """
    if "PREFECT__FLOW_RUN_ID" not in os.environ:
        return
    frame = inspect.currentframe()
    while frame is not None:
        code, module = frame.f_code, frame.f_globals.get("__name__")
        if code.co_name == "<module>" and module != "__main__" and _same(code.co_filename, file):
            raise Usage(
                f"{file} queues a task while it is loaded to run one",
                hint="put the call under `if __name__ == '__main__':`",
            )
        frame = frame.f_back


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
