"""What a task that is a script is made of, as it stands in a run's job variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from clearflow.words.notebooks import SUFFIX

KEY = "script"
CALLING = "clearflow.client.calling"
NOTEBOOK = "clearflow.client.notebook"  # what runs notebooks
ARGUMENTS = "arguments"  # the run's parameter, which can be edited until the script starts


@dataclass(frozen=True)
class PartSent:
    """One repository of a snapshot.

    Its bundle is on the server, in `pieces`, or a large one in the store, as the object `stored`.
    """

    path: str
    commit: str
    tree: str
    remote: str | None
    pieces: tuple[str, ...] = ()
    stored: str = ""


@dataclass(frozen=True)
class Script:
    """A program in a working copy: its file and the folder it runs in, below the root.

    `paths` are folders below the root from which it imports as well: packages that were installed
    where it comes from as they lie there (editable). With a `function` the file is loaded, and the
    function called; with a `module` that is run, as by `python -m`.
    """

    entry: str
    folder: str
    parts: tuple[PartSent, ...]
    paths: tuple[str, ...] = ()
    function: str = ""
    module: str = ""

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, variables: Mapping[str, Any]) -> Script | None:
        """The script of a task; None for one that is a flow."""
        data = variables.get(KEY)
        if not data:
            return None
        parts = tuple(PartSent(**{**p, "pieces": tuple(p["pieces"])}) for p in data["parts"])
        paths = tuple(data.get("paths") or ())
        function, module = data.get("function") or "", data.get("module") or ""
        return cls(data["entry"], data["folder"], parts, paths, function, module)

    def words(self, code: str) -> list[str]:
        """Behind the interpreter on the command line; `code` is where the working copy lies."""
        file = f"{code}/{self.entry}"
        if self.function:
            return ["-m", CALLING, file, self.function]
        if self.module:
            return ["-m", self.module]
        return ["-m", NOTEBOOK, file] if file.endswith(SUFFIX) else [file]
