"""A script and everything that has to travel with it, taken as they stand here.

It asks no server: what a program begins with waits for no more than this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clearflow.capture import loose, snapshot
from clearflow.capture.snapshot import Part, Snapshot
from clearflow.environment import collect
from clearflow.environment.collect import Needed
from clearflow.environment.recipe import Recipe
from clearflow.errors import Refused, Usage
from clearflow.words.notebooks import SUFFIX, as_script
from clearflow.words.scripts import PartSent, Script

_PACKAGES = ".clearflow/packages"
_CLEARFLOW = re.compile(r"\s*clearflow\s*($|[=<>!~;@\[#])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """A script to be queued.

    `named` are files that may be sent though they look like secrets, `folder` is where it starts,
    below the root of its working copy, `variables` are further job variables. A `function` of the
    file is called instead of it, or it is run as a `module`.
    """

    file: Path
    queue: str | None = None
    arguments: Sequence[str] = ()
    project: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    needed: Needed | None = None
    python_version: str | None = None
    named: Sequence[str] = ()
    max_attempts: int | None = None
    pool: str | None = None
    folder: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    function: str = ""
    module: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Packed:
    """An order with everything that has to travel, taken at one moment."""

    order: Order
    project: str
    script: Script
    snapshot: Snapshot
    needed: Needed
    root: Path
    place: Path

    def with_imported(self, imported: Mapping[str, Any]) -> Packed:
        """With what the running program has imported, where its project says nothing itself.

        Packages that lie in a folder elsewhere come along. Raises Refused for one that cannot.
        """
        if self.needed.source is not None:
            return self
        needed = collect.of_process(imported, self.root)
        parts, paths = [*self.script.parts], [*needed.paths]
        taken = [*self.snapshot.parts]
        for name, folder in needed.outside:
            part = _of_package(name, folder, self.place / "packages" / name)
            taken.append(part)
            parts.append(PartSent(part.path, part.commit, part.tree, None))
            inner = collect.importable(folder).relative_to(folder)
            paths.append((Path(part.path) / inner).as_posix())
        script = replace(self.script, parts=tuple(parts), paths=tuple(paths))
        snapshot = replace(self.snapshot, parts=tuple(taken))
        return replace(self, needed=needed, script=script, snapshot=snapshot)


def _of_package(name: str, folder: Path, place: Path) -> Part:
    """A package that lies elsewhere, as a part of the snapshot."""
    (place / "git").mkdir(parents=True)
    (place / "files").mkdir()
    taken = snapshot.take(loose.gather_package(folder, place / "files"), place / "git")
    if taken.forbidden:
        raise Refused(
            f"these files of the package {name} look like secrets, and would be sent:"
            f" {', '.join(taken.forbidden)}",
            hint="list them in its .gitignore",
        )
    return replace(taken.parts[0], path=f"{_PACKAGES}/{name}", remote=None)


def pack(order: Order, place: Path) -> Packed:
    """Take the script as it stands here, into the folder `place`; nothing is sent yet.

    Raises Usage for a file that cannot run, Refused for one that must not travel.
    """
    file = order.file.resolve()
    if not file.is_file():
        raise Usage(f"there is no file {order.file}")
    needed = order.needed
    home = snapshot.root_of(file.parent)
    if home is None and "." in order.module:
        raise Usage(
            f"the module {order.module} lies in no git repository, and cannot travel as a package",
            hint="git init there, or name the file as the script",
        )
    if needed is None:
        needed = collect.collect(file, home or file.parent)
    if order.python_version:
        needed = replace(needed, python_version=order.python_version)
    # What no machine could install is told before anything is queued.
    Recipe.of(job_of_needs(needed), prefect=False)
    root = home or _gather(order, file, place / "loose")
    (place / "git").mkdir(parents=True)
    taken = snapshot.take(root, place / "git")
    _check(order, taken)
    parts = tuple(PartSent(p.path, p.commit, p.tree, p.remote) for p in taken.parts)
    # Outside a repository the script stands at the top of one made for it.
    entry = file.relative_to(home or file.parent).as_posix()
    start = order.folder if order.folder is not None else _folder(root)
    script = Script(entry, start, parts, function=order.function, module=order.module)
    folder = home or file.parent
    project = _project(order, taken, folder)
    return Packed(order, project, script, taken, needed, folder, place)


def _gather(order: Order, file: Path, place: Path) -> Path:
    place.mkdir(parents=True)
    code = None
    if file.suffix == SUFFIX:
        try:
            code = as_script(file.read_text())
        except ValueError as error:
            raise Usage(f"{order.file} is no notebook: {error}") from None
    try:
        return loose.gather(file, place, code)
    except SyntaxError as error:
        raise Usage(f"{order.file}:{error.lineno}: {error.msg}") from None


def _folder(root: Path) -> str:
    """The folder the script starts in: where the user stands, if that is in the working copy."""
    here = Path.cwd().resolve()
    return here.relative_to(root).as_posix() if here.is_relative_to(root) else "."


def _project(order: Order, taken: Snapshot, folder: Path) -> str:
    """The name of the repository, else of the folder, where the user gives none."""
    remote = taken.parts[0].remote
    repository = remote.rstrip("/").rpartition("/")[2].removesuffix(".git") if remote else ""
    return order.project or repository or folder.name or "default"


def _check(order: Order, taken: Snapshot) -> None:
    held_back = [name for name in taken.forbidden if name not in order.named]
    if held_back:
        raise Refused(
            f"these files look like secrets, and would be sent: {', '.join(held_back)}",
            hint="list them in .gitignore, or name those that shall go with --send",
        )


def job_of_needs(needed: Needed) -> dict[str, Any]:
    """The job variables that say what is installed for it."""
    job: dict[str, Any] = {}
    # clearflow comes from the agent.
    lines = [r for r in needed.requirements if not _CLEARFLOW.match(r)]
    if lines:
        job["requirements"] = lines
    if needed.python_version:
        job["python_version"] = needed.python_version
    return job
