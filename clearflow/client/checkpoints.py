"""Models that other libraries save into files, kept as models of the task.

Of a file that is saved again before it was sent the last content counts. A training waits for it
only at its end.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from clearflow.client.later import Later
from clearflow.errors import ClearflowError

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = Later("tempfile")


LARGEST = 100_000_000  # bytes of a file that is sent without being asked for

_NAMES = {"sklearn": "scikit-learn", "lightgbm": "LightGBM", "xgboost": "XGBoost"}

_saved: dict[str, str] = {}  # frameworks by paths
_condition = threading.Condition()
_working: threading.Thread | None = None
_said: set[str] = set()


def saved(path: Any, framework: str) -> None:
    """A library has saved a model into a file; what is no path of one is none of our business."""
    from clearflow.client.task import Task

    global _working
    if not isinstance(path, (str, Path)) or _passing(Path(path)):
        return
    try:
        if Task.current_task() is None:
            return
    except ClearflowError:
        return
    with _condition:
        _saved[os.path.abspath(path)] = framework
        if _working is None:
            _working = threading.Thread(target=_work, daemon=True, name="clearflow-models")
            _working.start()
            # Before what else is done at the end, as it is registered after that.
            atexit.register(settle)
        _condition.notify_all()


def settle() -> None:
    """Until all that was saved is sent."""
    with _condition:
        _condition.wait_for(lambda: not _saved)


def _work() -> None:
    while True:
        with _condition:
            _condition.wait_for(lambda: bool(_saved))
            path, framework = next(iter(_saved.items()))
        before = _stamp(path)
        try:
            _keep(Path(path), framework)
        except Exception as error:  # the program did not ask for it
            _say(path, str(error))
        with _condition:
            # What was saved meanwhile is sent again.
            if before == _stamp(path):
                _saved.pop(path, None)
            _condition.notify_all()


def _keep(path: Path, framework: str) -> None:
    from clearflow.client import spooling
    from clearflow.client.models import OutputModel
    from clearflow.client.task import Task

    task = Task.current_task()
    if task is None or not path.exists():
        return
    name = f"{task.name} - {path.stem}"
    if spooling.outputs.get(task.id) is False:
        model = OutputModel(task, name=name, framework=framework)
        model.update_weights(register_uri=path.absolute().as_uri())
        return
    if _size(path) > LARGEST:
        _say(str(path), "it is large: task.upload_model() keeps it as well")
        return
    task.upload_model(path, name, framework=framework)


def _say(path: str, why: str) -> None:
    if path not in _said:
        _said.add(path)
        print(f"clearflow: the model {path} is not kept by itself: {why}", file=sys.stderr)


def _size(path: Path) -> int:
    """Of a file, or of all that is in a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(each.stat().st_size for each in files)


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def _passing(path: Path) -> bool:
    """Whether a file is not meant to stay: libraries hand data to other processes in such ones."""
    full = Path(os.path.abspath(path))
    places = [Path(tempfile.gettempdir()), Path("/dev/shm"), Path("/proc"), Path("/dev")]
    return any(p in full.parents for p in places) and Path.cwd() not in full.parents


# -- the libraries ----------------------------------------------------------------------------


def _replace(module: ModuleType, name: str, wrapped: Callable[..., Any]) -> None:
    """Put a function in the place of another one, wherever its library has that by now."""
    original = getattr(module, name)
    library = module.__name__.partition(".")[0]
    for place in (module, sys.modules.get(library)):
        if getattr(place, name, None) is original:
            setattr(place, name, wrapped)


def patch_torch(module: ModuleType) -> None:
    original = module.save

    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **named: Any) -> Any:
        result = original(obj, f, *args, **named)
        saved(f, "PyTorch")
        return result

    _replace(module, "save", save)


def patch_joblib(module: ModuleType) -> None:
    original = module.dump

    @functools.wraps(original)
    def dump(value: Any, filename: Any, *args: Any, **named: Any) -> Any:
        result = original(value, filename, *args, **named)
        if hasattr(value, "predict") or hasattr(value, "transform"):
            library = type(value).__module__.partition(".")[0]
            saved(filename, _NAMES.get(library, "joblib"))
        return result

    _replace(module, "dump", dump)


_saving = threading.local()


def _patch_method(kind: Any, name: str, path_is: str, framework: str) -> None:
    """Take what a method saves into the file, or the folder, that its first argument names.

    Of methods that call one another the outer one counts.
    """
    original = getattr(kind, name)

    @functools.wraps(original)
    def save(self: Any, *args: Any, **named: Any) -> Any:
        if getattr(_saving, "busy", False):
            return original(self, *args, **named)
        _saving.busy = True
        try:
            result = original(self, *args, **named)
        finally:
            _saving.busy = False
        saved(args[0] if args else named.get(path_is), framework)
        return result

    setattr(kind, name, save)


def patch_lightgbm(module: ModuleType) -> None:
    _patch_method(module.Booster, "save_model", "filename", "LightGBM")


def patch_xgboost(module: ModuleType) -> None:
    _patch_method(module.Booster, "save_model", "fname", "XGBoost")


def patch_catboost(module: ModuleType) -> None:
    _patch_method(module.CatBoost, "save_model", "fname", "CatBoost")


def patch_keras(module: ModuleType) -> None:
    for name in ("save", "save_weights"):
        _patch_method(module.Model, name, "filepath", "Keras")


def _in_child() -> None:
    """What is sent here is the parent's affair."""
    global _condition, _working
    _condition, _working = threading.Condition(), None
    _saved.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
