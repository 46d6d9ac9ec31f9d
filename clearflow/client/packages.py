"""Which distributions the running program has imported, and what those need: its environment."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

# A requirement: its name, the extras it asks for, and the extra that it belongs to itself.
_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[(?P<extras>[^\]]*)\])?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def imported() -> dict[str, Any]:
    """The distributions behind the modules that are imported now, and all that those need.

    Every one with its exact version, an editable or local one with the folder it comes from;
    Python's own version too.
    """
    distributions = {_key(d.metadata["Name"]): d for d in metadata.distributions()}
    homes = _homes()
    # clearflow itself, and what only it needs, is there wherever a task runs.
    modules = {name.partition(".")[0] for name in list(sys.modules)} - {"clearflow"}
    wanted = [(_key(name), "") for module in modules for name in homes.get(module, ())]
    found: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        key, extra = wanted.pop()
        distribution = distributions.get(key)
        if distribution is None or key == "clearflow" or (key, extra) in seen:
            continue
        seen.add((key, extra))
        found.setdefault(key, _described(distribution))
        wanted += _needed(distribution, extra)
    version = sys.version_info
    return {
        "python": f"{version.major}.{version.minor}",
        "packages": [found[key] for key in sorted(found)],
    }


def _needed(distribution: metadata.Distribution, extra: str) -> Iterator[tuple[str, str]]:
    """What a distribution needs by itself, or for one of its extras: names with extras."""
    for line in distribution.requires or ():
        requirement = _REQUIREMENT.match(line)
        belongs = _EXTRA.search(line)
        if requirement is None or (belongs[1] if belongs else "") != extra:
            continue
        name = _key(requirement["name"])
        yield name, ""
        for each in (requirement["extras"] or "").split(","):
            if each.strip():
                yield name, each.strip()


def _homes() -> dict[str, list[str]]:
    """The distributions that bring a module, by the module's name."""
    if hasattr(metadata, "packages_distributions"):
        return dict(metadata.packages_distributions())
    found: dict[str, list[str]] = {}
    for distribution in metadata.distributions():
        top = (distribution.read_text("top_level.txt") or "").split()
        files = {str(f).partition("/")[0] for f in distribution.files or ()}
        for module in {*top, *(f[:-3] if f.endswith(".py") else f for f in files)}:
            found.setdefault(module, []).append(distribution.metadata["Name"])
    return found


def _described(distribution: metadata.Distribution) -> dict[str, Any]:
    about: dict[str, Any] = {
        "name": distribution.metadata["Name"],
        "version": distribution.version,
    }
    if origin := distribution.read_text("direct_url.json"):
        about["origin"] = origin
    return about


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
