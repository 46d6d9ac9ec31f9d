"""Make the block documents of this folder on the configured server.

Values come from environment variables. A document that is there already is only changed when all
of its variables are set, so running this twice, or without the secrets at hand, harms nothing.

    TRAINING_TOKEN=... SLACK_WEBHOOK_URL=... python blocks/register.py
"""

import importlib
import os
import re
from pathlib import Path
from typing import Any

import yaml
from prefect.blocks.core import Block

PLACEHOLDERS = {"url": "https://example.org/set-me-in-the-ui", "value": "set me in the UI"}


def block_class(path: str) -> type[Block]:
    """The class named by a dotted path."""
    module, _, name = path.rpartition(".")
    found: type[Block] = getattr(importlib.import_module(module), name)
    return found


def values_of(document: dict[str, Any]) -> tuple[dict[str, str], bool]:
    """The values with variables filled in, and whether all variables were set."""
    filled: dict[str, str] = {}
    complete = True
    for key, value in document["values"].items():
        names = re.findall(r"\$\{(\w+)\}", str(value))
        if all(os.environ.get(name) for name in names):
            filled[key] = os.path.expandvars(str(value))
        else:
            filled[key], complete = PLACEHOLDERS[key], False
    return filled, complete


def register(path: Path) -> str:
    """Make or change one document; says what was done."""
    document = yaml.safe_load(path.read_text())
    kind = block_class(document["class"])
    values, complete = values_of(document)
    kind.register_type_and_schema()
    try:
        kind.load(document["name"])
        there = True
    except ValueError:
        there = False
    if there and not complete:
        return "left as it is"
    kind(**values).save(document["name"], overwrite=True)
    return "set" if complete else "made with a placeholder: set it in the UI"


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        print(f"{path.stem}: {register(path)}")


if __name__ == "__main__":
    main()
