"""What a task's virtual environment is made of, and the hash it is known by."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from clearflow.errors import Usage

_VERSION = re.compile(r"(?:python)?(3(?:\.\d+){0,2}t?)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_WITH_PREFECT = {"fastapi", "sqlalchemy", "pydantic", "httpx", "websockets"}
_INDEX_OPTIONS = (
    "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index",
    "--no-binary", "--only-binary",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is in an environment.

    `index_options` are lines such as `--extra-index-url https://...`; what the agent's own
    environment says of indexes (`UV_INDEX_URL`, keys) is used in the build and is no part of
    the recipe. `${NAME}` in a line is read from there too, so a key need not stand in it.
    """

    python_version: str
    requirements: tuple[str, ...] = ()
    index_options: tuple[str, ...] = ()
    platform: str = ""

    @classmethod
    def of(cls, variables: Mapping[str, Any], *, prefect: bool) -> Recipe | None:
        """The recipe that job variables ask for; None when the agent's own will do.

        With `prefect` the environment can also run a Prefect flow against this agent's server.
        Raises Usage for a line that could not mean the same on another machine.
        """
        asked, lines = variables.get("python_version"), variables.get("requirements")
        if not asked and not lines and not variables.get("more_requirements"):
            return None
        requirements, options = _sorted_out(lines or ())
        more, further = _sorted_out(variables.get("more_requirements") or ())
        # Who adds a package names its version, whatever was there before.
        named = {_name(line) for line in more}
        requirements = [line for line in requirements if _name(line) not in named] + more
        options += further
        if prefect:
            requirements += _of_prefect({_name(line) for line in requirements})
        return cls(
            python_version=_version(str(asked)) if asked else own_version(),
            requirements=tuple(sorted(set(requirements))),
            index_options=tuple(options),
            platform=sysconfig.get_platform(),
        )

    @property
    def hash(self) -> str:
        content = [self.python_version, self.requirements, self.index_options, self.platform]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """The recipe as a requirements file."""
        lines = [f"# Python {self.python_version}, {self.platform}"]
        return "\n".join([*lines, *self.index_options, *self.requirements, ""])

    def __str__(self) -> str:
        count = len(self.requirements)
        return f"Python {self.python_version}, {count} requirement{'' if count == 1 else 's'}"


def own_version() -> str:
    """The Python version of this process, such as 3.12."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _version(asked: str) -> str:
    match = _VERSION.fullmatch(asked.strip())
    if not match:
        raise Usage(
            f"{asked!r} is not a Python version", hint="write it as 3.12, or as 3.12.4 to be exact"
        )
    return match[1].lower()


def _sorted_out(lines: Iterable[str] | str) -> tuple[list[str], list[str]]:
    """Requirements and options; a whole requirements file in one string is taken apart."""
    if isinstance(lines, str):
        lines = lines.splitlines()
    requirements: list[str] = []
    options: list[str] = []
    for raw in lines:
        line = re.sub(r"(^|\s)#.*", "", str(raw)).strip()
        if not line:
            continue
        if "\n" in line:
            raise Usage(f"requirement {line!r} is more than one line")
        if line.startswith("-"):
            if re.split(r"[\s=]", line, maxsplit=1)[0] not in _INDEX_OPTIONS:
                raise Usage(f"{line!r} cannot stand among the requirements of a task")
            options.append(line)
        elif line.startswith((".", "/", "~")) or not _NAME.match(line):
            raise Usage(
                f"requirement {line!r} is a path of one machine",
                hint="name a package, or `name @ https://...`, or `name @ git+https://...`",
            )
        else:
            requirements.append(line)
    return requirements, options


def _name(requirement: str) -> str:
    """The name of the package in a requirement, in its normal form."""
    match = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def _of_prefect(named: set[str]) -> list[str]:
    """What a flow's process needs, except for packages that the task names itself."""
    return [line for name, line in _agents_bounds() if name not in named]


@cache
def _agents_bounds() -> list[tuple[str, str]]:
    """This agent's version of Prefect, and clearflow's own bounds for what breaks it."""
    # Reading what is installed costs more than all else here, and few recipes have Prefect in them.
    from importlib.metadata import requires, version

    own = [(_name(line), line) for line in requires("clearflow") or ()]
    return [
        ("prefect", f"prefect=={version('prefect')}"),
        *((name, line) for name, line in own if name in _WITH_PREFECT),
    ]
