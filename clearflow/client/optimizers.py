"""Who chooses the points of a search, under ClearML's names; and what else a search is told."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from clearflow.errors import Usage


class GridSearch:
    """All combinations, in their order; ranges need a step_size."""

    settings: Mapping[str, Any] = {"optimizer": "grid"}


class RandomSearch:
    """Points by chance."""

    settings: Mapping[str, Any] = {"optimizer": "random"}


class OptimizerOptuna:
    """Points that one of Optuna's samplers chooses, trials that one of its pruners stops.

    Which ones say `optuna_sampler` and `optuna_pruner`: an object of Optuna's, as it is at that
    moment, or a name such as "CmaEsSampler", with `sampler_arguments` and `pruner_arguments`.
    """

    settings: Mapping[str, Any] = {"optimizer": "optuna"}


class OptimizerBOHB:
    """Bayesian optimisation with Hyperband: Optuna's TPESampler and HyperbandPruner."""

    settings: Mapping[str, Any] = {"optimizer": "optuna", "pruner": "HyperbandPruner"}


_CLASSES = {c.__name__: c for c in (GridSearch, RandomSearch, OptimizerOptuna, OptimizerBOHB)}
_UNNEEDED = ("pool_period_min", "auto_connect_task", "always_create_task", "max_wait_time")
"""What ClearML knows and has no effect here: nobody looks now and then."""
_LARGEST = 200_000  # characters; Prefect takes half a megabyte of parameters
_RENAMED = {"optuna_sampler": "sampler", "optuna_pruner": "pruner"}


def kind_of(optimizer_class: Any) -> Any:
    name = optimizer_class if isinstance(optimizer_class, str) else optimizer_class.__name__
    if name not in _CLASSES:
        raise Usage(f"there is no optimizer {name!r}", hint="there are " + ", ".join(_CLASSES))
    return _CLASSES[name]


def objectives_of(
    titles: str | Sequence[str], series: str | Sequence[str], signs: str | Sequence[str]
) -> list[dict[str, str]]:
    many = [[each] if isinstance(each, str) else list(each) for each in (titles, series, signs)]
    if len({len(each) for each in many}) > 1:
        raise Usage(
            f"{len(many[0])} titles, {len(many[1])} series and {len(many[2])} signs are not as many"
            " of each"
        )
    found = []
    for title, name, sign in zip(*many):  # noqa: B905 - Python 3.9
        if sign not in ("min", "max", "min_global", "max_global"):
            raise Usage(f"{sign!r} is no sign", hint="min, max, min_global or max_global")
        found.append({"title": title, "series": name, "sign": sign})
    return found


def further(said: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their own names. Raises Usage for a sampler or pruner that cannot travel."""
    found: dict[str, Any] = {}
    for name, value in said.items():
        if name in _UNNEEDED:
            continue
        word = _RENAMED.get(name, name)
        if word in ("sampler", "pruner") and isinstance(value, type):
            value = value.__name__
        elif word in ("sampler", "pruner") and value is not None and not isinstance(value, str):
            found[f"{word}_object"] = _packed(name, value)
            value = type(value).__name__
        if name == "continue_previous_study":
            many = value if isinstance(value, (list, tuple)) else [value]
            word, value = "continue_from", [getattr(e, "task", e) for e in many if e is not None]
            value = [each if isinstance(each, str) else each.id for each in value]
        found[word] = value
    return found


def _packed(name: str, value: Any) -> str:
    """An object of Optuna's, to be made again where the search runs. Raises Usage for another."""
    kind = type(value)
    if kind.__module__.partition(".")[0] != "optuna":
        raise Usage(
            f"{name}: {kind.__name__} is not of Optuna: where the search runs nobody knows it",
            hint="optuna.samplers and optuna.pruners have what travels",
        )
    try:
        text = base64.b64encode(pickle.dumps(value)).decode()
    except Exception as error:  # whatever is in it, such as a function of this program
        raise Usage(
            f"{name}: this {kind.__name__} cannot be sent: {error}",
            hint=f'its name can: {name}="{kind.__name__}", with its arguments',
        ) from None
    if len(text) > _LARGEST:
        raise Usage(f"{name}: this {kind.__name__} is too large to be sent: make a new one")
    return text
