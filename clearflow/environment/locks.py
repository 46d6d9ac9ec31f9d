"""Lock files of other tools, read as requirements with exact versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from clearflow.errors import Usage


def of_poetry(data: Mapping[str, Any]) -> list[str]:
    """The main group of a `poetry.lock`. Raises Usage for a package that is a folder."""
    return [_poetry_line(package) for package in data.get("package") or () if _is_main(package)]


def _is_main(package: Mapping[str, Any]) -> bool:
    # Files of Poetry 2 say the groups, those before 1.5 a category, those between neither.
    groups = package.get("groups") or [package.get("category") or "main"]
    return "main" in groups and not package.get("optional")


def _poetry_line(package: Mapping[str, Any]) -> str:
    source = package.get("source") or {}
    name, kind = package["name"], source.get("type")
    if kind in {"directory", "file"}:
        raise _folder("poetry.lock", name)
    if kind == "git":
        line = f"{name} @ git+{source['url']}@{source['resolved_reference']}"
    elif kind == "url":
        line = f"{name} @ {source['url']}"
    else:
        line = f"{name}=={package['version']}"
    marker = package.get("markers")
    if isinstance(marker, Mapping):
        marker = marker.get("main")
    return f"{line} ; {marker}" if marker else line


def of_pylock(data: Mapping[str, Any]) -> list[str]:
    """The packages of a `pylock.toml` (PEP 751) that are installed without extras and groups.

    Raises Usage for a package that is a folder.
    """
    return list(_pylock_lines(data))


# Conditions on what the installer was asked for, which is nothing beyond the default here.
_ASKED = re.compile(r"""["'][^"']+["']\s+in\s+(extras|dependency_groups)""")


def _pylock_lines(data: Mapping[str, Any]) -> Iterator[str]:
    default = set(data.get("default-groups") or ())
    for package in data.get("packages") or ():
        name, marker = package["name"], package.get("marker") or ""
        if match := _ASKED.search(marker):
            group = match[0].split("in")[0].strip().strip("\"'")
            if match[1] == "extras" or group not in default:
                continue
            marker = ""
        if "directory" in package:
            raise _folder("pylock.toml", name)
        if vcs := package.get("vcs"):
            line = f"{name} @ {vcs['type']}+{vcs['url']}@{vcs['commit-id']}"
        elif url := (package.get("archive") or {}).get("url"):
            line = f"{name} @ {url}"
        else:
            line = f"{name}=={package['version']}"
        yield f"{line} ; {marker}" if marker else line


def _folder(file: str, name: str) -> Usage:
    return Usage(
        f"{file} takes the package {name} from a folder of this machine",
        hint="name what the task needs in a requirements.txt beside the script",
    )
