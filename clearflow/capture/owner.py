"""Who acts: the address git knows the user by, else the name of the system's user."""

from __future__ import annotations

import getpass
import os
import subprocess
from functools import cache


@cache
def owner() -> str:
    """The user as tasks and their states name them; never empty."""
    return _git_email() or _system_user()


def _git_email() -> str | None:
    try:
        said = subprocess.run(
            ["git", "config", "user.email"],
            capture_output=True,
            text=True,
            timeout=5,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # A container whose user id has no name.
        return f"uid-{os.getuid()}"
