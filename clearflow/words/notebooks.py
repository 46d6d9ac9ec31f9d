"""Notebooks as Python has them. Pure; used inside of tasks too, so it keeps to Python 3.9."""

from __future__ import annotations

import json

SUFFIX = ".ipynb"
_OF_CELL = ("%%time", "%%timeit", "%%capture", "%%prun")
_COMMANDS = ("%", "!", "?")


def cells(text: str) -> list[str]:
    """The sources of its code cells. Raises ValueError for what is no notebook."""
    data = json.loads(text)
    if not isinstance(data, dict) or not isinstance(data.get("cells"), list):
        raise ValueError("it has no cells")
    return [
        source if isinstance(source, str) else "".join(source)
        for cell in data["cells"]
        if cell.get("cell_type") == "code" and (source := cell.get("source"))
    ]


def plain(source: str) -> tuple[str, list[str]]:
    """A cell as Python has it, with lines in the same places; and the lines that are left out."""
    lines = source.split("\n")
    left_out = []
    if lines[0].startswith("%%"):
        if not lines[0].startswith(_OF_CELL):
            return "", [lines[0]]
        lines[0] = ""
    for number, line in enumerate(lines):
        word = line.lstrip()
        if word.startswith(_COMMANDS) or word.endswith("?"):
            left_out.append(word)
            lines[number] = line[: len(line) - len(word)] + "pass"
    return "\n".join(lines), left_out


def as_script(text: str) -> str:
    """The whole notebook as one Python file."""
    parts = [f"# In[{number}]\n{plain(cell)[0]}" for number, cell in enumerate(cells(text), 1)]
    return "\n\n".join(parts) + "\n"
