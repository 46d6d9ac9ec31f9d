"""What other libraries draw and report, taken as results; only of those that a program imports."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from clearflow.client import checkpoints
from clearflow.client.imports import when_imported
from clearflow.client.logger import Logger
from clearflow.errors import ClearflowError

_taken: set[str] = set()
_busy = threading.local()
_figures: dict[str, int] = {}


def capture(wanted: bool | Mapping[str, bool]) -> None:
    """Take figures of matplotlib that are shown or saved (scikit-learn's among them), scalars of
    tensorboard's writers, what LightGBM and XGBoost evaluate in each round, and the models that
    they, PyTorch, Keras, CatBoost and joblib (for scikit-learn) save into files.

    A dictionary says it by name: `{"matplotlib": False}`. What is taken once stays taken.
    """
    for name, module, patch in _KNOWN:
        said = wanted.get(name, True) if isinstance(wanted, Mapping) else wanted
        if said and module not in _taken:
            _taken.add(module)
            when_imported(module, patch)


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Whether nothing of ours is on this thread's stack, which must not be taken itself."""
    free = not getattr(_busy, "busy", False)
    _busy.busy = True
    try:
        yield free
    finally:
        if free:
            _busy.busy = False


def _report(act: Callable[[Logger], None]) -> None:
    """A result that cannot be taken does not end the program that did not ask for it."""
    with _alone() as free, contextlib.suppress(ClearflowError):
        logger = Logger.current_logger() if free else None
        if logger is not None:
            act(logger)


# -- matplotlib -------------------------------------------------------------------------------


def _patch_figure(module: ModuleType) -> None:
    original = module.Figure.savefig

    @functools.wraps(original)
    def savefig(self: Any, fname: Any, *args: Any, **named: Any) -> Any:
        result = original(self, fname, *args, **named)
        # What goes into memory is no picture for people yet.
        if isinstance(fname, (str, Path)):
            _report(lambda logger: _take_figure(logger, self, Path(fname).stem))
        return result

    module.Figure.savefig = savefig


def _patch_pyplot(module: ModuleType) -> None:
    original = module.show

    @functools.wraps(original)
    def show(*args: Any, **named: Any) -> Any:
        for number in module.get_fignums():
            figure = module.figure(number)
            _report(lambda logger: _take_figure(logger, figure, "plot"))  # noqa: B023
        return original(*args, **named)

    module.show = show  # type: ignore[attr-defined]


def _take_figure(logger: Logger, figure: Any, name: str) -> None:
    above = getattr(figure, "_suptitle", None)
    titles = [above.get_text()] if above is not None else []
    titles += [axes.get_title() for axes in figure.get_axes()]
    title = next((t for t in titles if t), name)
    count = _figures.get(title, 0)
    _figures[title] = count + 1
    logger.report_matplotlib_figure(title, name, figure, count)


# -- tensorboard ------------------------------------------------------------------------------


def _patch_writer(module: ModuleType) -> None:
    writer: Any = module.SummaryWriter
    scalar, scalars = writer.add_scalar, writer.add_scalars

    @functools.wraps(scalar)
    def add_scalar(
        self: Any, tag: str, scalar_value: Any, global_step: int | None = None, *a: Any, **k: Any
    ) -> Any:
        result = scalar(self, tag, scalar_value, global_step, *a, **k)
        title, _, series = tag.partition("/")
        _report(lambda l: l.report_scalar(title, series or tag, scalar_value, global_step or 0))  # noqa: E741
        return result

    @functools.wraps(scalars)
    def add_scalars(
        self: Any,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: int | None = None,
        *a: Any,
        **k: Any,
    ) -> Any:
        result = scalars(self, main_tag, tag_scalar_dict, global_step, *a, **k)
        for series, value in tag_scalar_dict.items():
            _report(lambda l: l.report_scalar(main_tag, series, value, global_step or 0))  # noqa: B023, E741
        return result

    writer.add_scalar, writer.add_scalars = add_scalar, add_scalars


# -- gradient boosting ------------------------------------------------------------------------


def _patch_training(module: ModuleType, library: str, watch: Callable[[], Any]) -> None:
    """Give `train` one more callback, wherever the library has it by now."""
    original: Any = module.train

    @functools.wraps(original)
    def train(*args: Any, **named: Any) -> Any:
        named["callbacks"] = [*(named.get("callbacks") or ()), watch()]
        return original(*args, **named)

    for name in (module.__name__, library, f"{library}.sklearn"):
        place = sys.modules.get(name)
        if getattr(place, "train", None) is original:
            place.train = train  # type: ignore[union-attr]


def _patch_lightgbm(module: ModuleType) -> None:
    def watch() -> Any:
        def told(env: Any) -> None:
            for data, metric, value, *_ in env.evaluation_result_list or ():
                _report(lambda l: l.report_scalar(metric, data, value, env.iteration))  # noqa: B023, E741

        told.order = 20  # type: ignore[attr-defined]
        return told

    _patch_training(module, "lightgbm", watch)


def _patch_xgboost(module: ModuleType) -> None:
    def watch() -> Any:
        base: Any = sys.modules["xgboost.callback"].TrainingCallback

        class Told(base):  # type: ignore[misc]
            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                for data, metrics in evals_log.items():
                    for metric, values in metrics.items():
                        last = values[-1]
                        value = last[0] if isinstance(last, tuple) else last
                        _report(lambda l: l.report_scalar(metric, data, value, epoch))  # noqa: B023, E741
                return False

        return Told()

    _patch_training(module, "xgboost", watch)


_KNOWN: tuple[tuple[str, str, Callable[[ModuleType], None]], ...] = (
    ("matplotlib", "matplotlib.figure", _patch_figure),
    ("matplotlib", "matplotlib.pyplot", _patch_pyplot),
    ("tensorboard", "tensorboardX.writer", _patch_writer),
    ("tensorboard", "torch.utils.tensorboard.writer", _patch_writer),
    ("lightgbm", "lightgbm.engine", _patch_lightgbm),
    ("xgboost", "xgboost.training", _patch_xgboost),
    ("pytorch", "torch.serialization", checkpoints.patch_torch),
    ("joblib", "joblib.numpy_pickle", checkpoints.patch_joblib),
    ("lightgbm", "lightgbm.basic", checkpoints.patch_lightgbm),
    ("xgboost", "xgboost.core", checkpoints.patch_xgboost),
    ("catboost", "catboost.core", checkpoints.patch_catboost),
    # Where the class has lain: in Keras 3, in 2.13 to 2.15, and before.
    ("keras", "keras.src.models.model", checkpoints.patch_keras),
    ("keras", "keras.src.engine.training", checkpoints.patch_keras),
    ("keras", "keras.engine.training", checkpoints.patch_keras),
)
