"""Something to do when the user's program imports a library, and not before."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_waiting: dict[str, list[Callable[[ModuleType], None]]] = {}


def when_imported(name: str, act: Callable[[ModuleType], None]) -> None:
    """Call `act(module)` when the module has been imported; now if it has been already."""
    if name in sys.modules:
        act(sys.modules[name])
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _waiting.setdefault(name, []).append(act)


class _Finder:
    """Finds nothing itself; it puts a word in behind the loading of those who are waited for."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in _waiting:
            return None
        acts = _waiting.pop(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            _waiting[fullname] = acts
            return None
        # Without the base classes: importing these costs more than all the rest of this file.
        spec.loader = _Loader(spec.loader, acts)  # type: ignore[assignment]
        return spec


class _Loader:
    def __init__(self, loader: Any, acts: Sequence[Callable[[ModuleType], None]]) -> None:
        self._loader, self._acts = loader, acts

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module shall look as if nobody had been here.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for act in self._acts:
            act(module)
