"""What a project says it needs, read where it lies.

In this order, the first that is there: the script's own header (PEP 723), `uv.lock`, `poetry.lock`,
`pylock.toml`, `requirements.txt`, the dependencies in `pyproject.toml`; each beside the script
first, then in the folders above it, up to the project's root. Where none of them is, and the
program runs already: what that has imported.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from clearflow.environment import locks
from clearflow.errors import Refused, Usage

# The regular expression of PEP 723, for the one block that it defines so far.
_HEADER = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


@dataclass(frozen=True, slots=True)
class Needed:
    """Requirements, the version of Python where one is named, and which file says so.

    `outside` are packages that are installed as they lie in a folder elsewhere: names and folders.
    """

    requirements: tuple[str, ...] = ()
    python_version: str | None = None
    source: str | None = None
    paths: tuple[str, ...] = ()  # folders below the root that are on the import path
    outside: tuple[tuple[str, Path], ...] = ()


def collect(script: Path, root: Path) -> Needed:
    """What the script needs by its project's files; nothing where there are none.

    Raises Usage for a file that cannot be read.
    """
    if (header := _header(script)) is not None:
        return header
    for reader in (_uv, _poetry, _pylock, _requirements, _project):
        for folder in _upwards(script.parent, root):
            found = reader(folder)
            if found is not None:
                return found
    return Needed()


def of_file(file: Path) -> Needed:
    """The lines of a requirements file. Raises Usage when it cannot be read."""
    try:
        return Needed(tuple(file.read_text().splitlines()), source=file.name)
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{file} cannot be read: {error}") from None


def of_process(imported: Mapping[str, Any], root: Path) -> Needed:
    """What a running program has imported, as it lists it itself: with exact versions.

    A package that is installed as it lies below `root` travels with the working copy, one that lies
    elsewhere beside it. Raises Refused for one whose folder is gone.
    """
    lines: list[str] = []
    paths: list[str] = []
    outside: list[tuple[str, Path]] = []
    for package in imported["packages"]:
        origin = json.loads(package.get("origin") or "{}")
        url = str(origin.get("url") or "")
        if url.startswith("file:"):
            folder = Path(unquote(urlsplit(url).path)).resolve()
            if not folder.is_dir():
                raise Refused(
                    f"the package {package['name']} was installed from {folder}, which is gone",
                    hint="name what the task needs in a requirements.txt beside the script",
                )
            if folder.is_relative_to(root):
                paths.append(importable(folder).relative_to(root).as_posix())
            else:
                outside.append((package["name"], folder))
        elif vcs := origin.get("vcs_info"):
            lines.append(f"{package['name']} @ {vcs['vcs']}+{url}@{vcs['commit_id']}")
        elif url:
            lines.append(f"{package['name']} @ {url}")
        else:
            lines.append(f"{package['name']}=={package['version']}")
    source = "the running program"
    return Needed(tuple(lines), imported["python"], source, tuple(paths), tuple(outside))


def importable(folder: Path) -> Path:
    """Where the modules of a project in this folder are."""
    return folder / "src" if (folder / "src").is_dir() else folder


def _upwards(folder: Path, root: Path) -> Iterator[Path]:
    yield folder
    while folder != root and root in folder.parents:
        folder = folder.parent
        yield folder


def _header(script: Path) -> Needed | None:
    match = _HEADER.search(script.read_text(errors="replace"))
    if match is None:
        return None
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in match[1].splitlines())
    data = _toml("\n".join(lines), script)
    python = _exact(data.get("requires-python"))
    return Needed(tuple(data.get("dependencies") or ()), python, script.name)


def _uv(folder: Path) -> Needed | None:
    if not (folder / "uv.lock").is_file():
        return None
    from uv import find_uv_bin

    words = ["export", "--frozen", "--no-emit-project", "--no-hashes", "--no-header", "--quiet"]
    done = subprocess.run(
        [find_uv_bin(), *words, "--no-annotate"],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["uv export failed"])[0]
        raise Usage(f"{folder / 'uv.lock'} cannot be read: {said}")
    return Needed(tuple(done.stdout.splitlines()), _pinned(folder), "uv.lock")


def _poetry(folder: Path) -> Needed | None:
    return _locked(folder / "poetry.lock", locks.of_poetry)


def _pylock(folder: Path) -> Needed | None:
    return _locked(folder / "pylock.toml", locks.of_pylock)


def _locked(file: Path, read: Callable[[Mapping[str, Any]], list[str]]) -> Needed | None:
    if not file.is_file():
        return None
    try:
        lines = read(_toml(file.read_text(errors="replace"), file))
    except (KeyError, TypeError, AttributeError) as error:
        raise Usage(f"{file} cannot be read: {error!r}") from None
    return Needed(tuple(lines), _pinned(file.parent), file.name)


def _requirements(folder: Path) -> Needed | None:
    file = folder / "requirements.txt"
    return of_file(file) if file.is_file() else None


def _project(folder: Path) -> Needed | None:
    file = folder / "pyproject.toml"
    if not file.is_file():
        return None
    project = _toml(file.read_text(errors="replace"), file).get("project")
    if not isinstance(project, dict):
        return None
    python = _pinned(folder) or _exact(project.get("requires-python"))
    return Needed(tuple(project.get("dependencies") or ()), python, file.name)


def _pinned(folder: Path) -> str | None:
    file = folder / ".python-version"
    return file.read_text().strip() or None if file.is_file() else None


def _exact(specifier: object) -> str | None:
    """The version that `requires-python` names; None for a range, which the agent's own may fit."""
    exact = re.search(r"==\s*(3\.\d+(?:\.\d+)?)", str(specifier or ""))
    return exact[1] if exact else None


def _toml(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Usage(f"{file} cannot be read: {error}") from None
