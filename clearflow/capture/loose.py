"""A script that lies in no repository: itself, and the files that it imports from its folder."""

from __future__ import annotations

import shutil
from modulefinder import ModuleFinder
from pathlib import Path

from clearflow.capture.git import git


def gather(script: Path, place: Path) -> Path:
    """A repository in the folder `place` with the script and what it imports; returns its root.

    Imports are followed in the code, not by running it. Raises SyntaxError of the script's.
    """
    folder = script.parent
    finder = ModuleFinder(path=[str(folder)])
    finder.run_script(str(script))
    files = [getattr(module, "__file__", None) for module in finder.modules.values()]
    found = {script, *(Path(file) for file in files if file)}
    for file in found:
        if file.is_relative_to(folder):
            target = place / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
    git("init", "-q", cwd=place)
    return place
