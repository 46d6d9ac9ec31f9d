"""A machine of its own for an agent, as far as files go: a mount namespace without the laptop's."""

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.agents import AGENT

_UNSHARE = ("unshare", "--mount", "--propagation", "private")


@functools.cache
def possible() -> bool:
    """Whether this user may have a mount namespace; root may."""
    try:
        done = subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def program(hidden: Sequence[Path]) -> tuple[str, ...]:
    """How to start an agent that finds empty folders in the place of these."""
    assert possible() or os.getuid() != 0, "root has not got a mount namespace"
    if not possible():
        return (sys.executable, "-c", AGENT)
    mounts = [f"mount -t tmpfs none {shlex.quote(str(folder))}" for folder in hidden]
    script = " && ".join([*mounts, 'exec "$@"'])
    return (*_UNSHARE, "sh", "-c", script, "sh", sys.executable, "-c", AGENT)
