"""The working copy of a newcomer: one commit, and a change that nobody has committed."""

from __future__ import annotations

import shutil
from pathlib import Path

from clearflow.capture.git import git

UNCOMMITTED = "this line is in no commit, and runs all the same"
_SCRIPT = Path(__file__).with_name("digits.py")
# Nobody is asked for a signature, and no hook of the newcomer's runs.
_SETTINGS = (
    "user.name=Quickstart",
    "user.email=quickstart@localhost",
    "commit.gpgsign=false",
    "core.hooksPath=/dev/null",
)


def make(folder: Path) -> Path:
    """Make it in a folder that is not there yet; the script in it."""
    folder.mkdir(parents=True)
    script = folder / _SCRIPT.name
    shutil.copyfile(_SCRIPT, script)
    git("init", "-q", cwd=folder)
    git("add", script.name, cwd=folder)
    git("commit", "-q", "-m", "Learn to read digits", cwd=folder, settings=_SETTINGS)
    with script.open("a") as file:
        file.write(f'    print("{UNCOMMITTED}")\n')
    return script
