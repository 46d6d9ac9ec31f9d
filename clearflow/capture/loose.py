"""Files that travel without being in the repository: of a script in none, and of local packages."""

from __future__ import annotations

import shutil
from pathlib import Path

from clearflow.capture.git import attempt, git


def gather(script: Path, place: Path, as_script: str | None = None) -> Path:
    """A repository in the folder `place` with the script and what it imports; returns its root.

    Imports are followed in the code, not by running it; of what is no Python file `as_script` is
    the code. Raises SyntaxError of the script's.
    """
    from modulefinder import ModuleFinder

    folder = script.parent
    finder = ModuleFinder(path=[str(folder)])
    if as_script is not None:
        plain = place.with_name(f"{place.name}.py")
        plain.write_text(as_script)
        finder.run_script(str(plain))
        plain.unlink()
    else:
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


_LEFT_OUT = shutil.ignore_patterns(
    ".git", "__pycache__", "*.egg-info", ".venv", "venv", "build", "dist", ".tox", "node_modules"
)


def gather_package(folder: Path, place: Path) -> Path:
    """A repository in the folder `place` with the files of a package; returns its root.

    What git ignores there stays here.
    """
    listed = attempt("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=folder)
    if listed:
        for name in filter(None, listed.split("\0")):
            source, target = folder / name, place / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
    else:
        shutil.copytree(folder, place, ignore=_LEFT_OUT, dirs_exist_ok=True)
    git("init", "-q", cwd=place)
    return place
