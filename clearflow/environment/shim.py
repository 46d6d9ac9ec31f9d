"""clearflow alone, for another interpreter.

A task's own environment has no clearflow in it, and must not see the agent's other packages. So
its import path gets a folder that holds one link: to this very copy of clearflow.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def package() -> Path:
    """Where this copy of clearflow lies."""
    return _PACKAGE


def package_path(home: Path) -> Path:
    """A folder for `PYTHONPATH` from which nothing but clearflow can be imported.

    Each copy of clearflow on a machine has its own, so agents of two versions live side by side.
    """
    folder = home / "packages" / hashlib.sha256(os.fsencode(_PACKAGE)).hexdigest()[:16]
    link = folder / "clearflow"
    with contextlib.suppress(OSError):
        if os.readlink(link) == str(_PACKAGE):
            return folder
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{secrets.token_hex(4)}"
    fresh.symlink_to(_PACKAGE, target_is_directory=True)
    fresh.replace(link)
    return folder
