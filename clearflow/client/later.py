"""Modules that most programs do without: loaded when something of them is used.

`import clearflow` is in every training's way, and half of it was what draws and packs. Type
checkers see the real import:

    if TYPE_CHECKING:
        from clearflow.client import packing
    else:
        packing = Later("clearflow.client.packing")
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """Stands for a module until something of it is used, and after."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
