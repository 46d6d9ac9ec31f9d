"""Notebooks as programs: their cells from first to last, in one namespace, without Jupyter.

    python -m clearflow.client.notebook train.ipynb --lr 0.1

What only a notebook can do (`%magic`, `!command`) is left out, and said. Jupyter's `display`
prints where IPython is not there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from clearflow.words.notebooks import SUFFIX, cells, plain


def file_of_kernel() -> str | None:
    """The file of the notebook that this process is the kernel of; None in other processes.

    Where nobody says which it is, a file with the cells that were run so far.
    """
    main: Any = sys.modules.get("__main__")
    if "ipykernel" not in sys.modules or hasattr(main, "__file__"):
        return None
    named = getattr(main, "__vsc_ipynb_file__", None) or os.environ.get("JPY_SESSION_NAME")
    if named and str(named).endswith(SUFFIX) and os.path.isfile(named):
        return os.path.abspath(named)
    run = [cell for cell in getattr(main, "In", ()) if cell.strip()]
    if not run:
        return None
    file = Path(tempfile.mkdtemp(prefix="notebook-")) / f"notebook{SUFFIX}"
    made = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in run]
    file.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return str(file)


def run(file: str) -> None:
    """Run the notebook as this program."""
    main = ModuleType("__main__")
    main.__dict__.update(__file__=file, __builtins__=__builtins__, display=_display())
    # A module that nobody holds forgets its names, this one's among them.
    main.__dict__["_clearflow"] = sys.modules["__main__"]
    sys.modules["__main__"] = main
    for name, code in _compiled(file):
        sys.stdout.flush()

        exec(compile(code, name, "exec"), main.__dict__)


def _compiled(file: str) -> Iterator[tuple[str, str]]:
    for number, cell in enumerate(cells(Path(file).read_text(encoding="utf-8")), 1):
        code, left_out = plain(cell)
        for line in left_out:
            print(f"clearflow: left out of cell {number}: {line}", file=sys.stderr)
        yield f"{os.path.basename(file)}[{number}]", code


def _display() -> Any:
    try:
        from IPython.display import display
    except ImportError:
        return print
    return display


def main() -> None:
    """The notebook named first on the command line; what comes behind it is for the notebook."""
    file = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(file))
    run(file)


if __name__ == "__main__":
    main()
