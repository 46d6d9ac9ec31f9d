"""Prefect's profiles: the file that says which server a person works with.

The file belongs to Prefect and to the person. Only the one profile and the name of the active one
are changed, as text, so that comments and other profiles stay as they are; the new file replaces
the old one in one step.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clearflow._prefect.connection import profiles_path
from clearflow.errors import Refused, Usage

_HEADER = re.compile(r"^\s*\[")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def write(
    name: str, values: Mapping[str, str], *, activate: bool, path: Path | None = None
) -> Path:
    """Set the profile to exactly these settings and maybe make it the active one.

    Returns the file. Raises Usage for a name that is none, Refused when the file that is there
    cannot be understood: nothing is written then.
    """
    if not _NAME.fullmatch(name):
        raise Usage(f"{name!r} is not a name for a profile: letters, digits, - and _ only")
    path = path or profiles_path()
    before = path.read_text() if path.exists() else ""
    wanted = _parsed(before, path)
    wanted.setdefault("profiles", {})[name] = dict(values)
    if activate:
        wanted["active"] = name
    text = _with_profile(_with_active(before, name) if activate else before, name, values)
    if _parsed(text, path) != wanted:
        raise Refused(
            f"{path} is written in a way that cannot be changed without risk",
            hint=f"`prefect profile create {name}` and `prefect config set` change it",
        )
    _replace(path, text)
    return path


def read(path: Path | None = None) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """The name of the active profile, and all profiles of the file."""
    path = path or profiles_path()
    data = _parsed(path.read_text(), path) if path.exists() else {}
    return data.get("active"), data.get("profiles", {})


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} cannot be read: {error}") from None


def _with_active(text: str, name: str) -> str:
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if _HEADER.match(line):
            break
        if re.match(r"\s*active\s*=", line):
            lines[number] = f'active = "{name}"'
            return "\n".join(lines) + "\n"
    return f'active = "{name}"\n' + (f"\n{text}" if text else "")


def _with_profile(text: str, name: str, values: Mapping[str, str]) -> str:
    own = re.compile(rf"""\s*\[\s*profiles\s*\.\s*["']?{re.escape(name)}["']?\s*\]""")
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if _HEADER.match(line):
            inside = bool(own.match(line))
        if not inside:
            kept.append(line)
    while kept and not kept[-1].strip():
        kept.pop()
    # A JSON string is a TOML string too.
    section = [f"[profiles.{name}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
    return "\n".join([*kept, *([""] if kept else []), *section]) + "\n"


def _replace(path: Path, text: str) -> None:
    """The file may hold a key: only its owner may read it, from the first moment."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
