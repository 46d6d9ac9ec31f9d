"""Points that Optuna's samplers choose, and trials that its pruners stop.

The study is in memory, and made anew out of the trial tasks: these are its storage.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import pickle
import warnings
from collections.abc import Mapping
from typing import Any

import optuna

from clearflow.automation.search.settings import SearchSettings
from clearflow.automation.search.strategies import COMPLETE, PRUNED, Ended, Steps, Strategy
from clearflow.errors import Usage
from clearflow.words.spaces import CHOICE, INT, Axis, Point


class Optuna:
    """A strategy; with a `chooser` that one chooses, and only the pruner is Optuna's.

    Raises Usage for a sampler or pruner that there is not.
    """

    def __init__(
        self, settings: SearchSettings, name: str, known: int, chooser: Strategy | None = None
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = settings.space
        self._least = settings.min_iteration_per_job or 0
        self._distributions = {n: _distribution(a) for n, a in self._space.axes.items()}
        self._trials: dict[int, optuna.Trial] = {}
        self._heard: dict[int, int] = {}
        self._chooser, self._over = chooser, False
        # A pruner may decide by the study's name and the trial's number: both are kept.
        self._study = optuna.create_study(
            study_name=name,
            sampler=optuna.samplers.RandomSampler() if chooser else _sampler(settings, name, known),
            pruner=_pruner(settings),
            directions=["maximize" if o.maximize else "minimize" for o in settings.objectives],
        )
        # What a sampler calls that has looked at everything; Optuna means its own loop.
        self._study.stop = self._stop  # type: ignore[method-assign]

    def _stop(self) -> None:
        self._over = True

    def ask(self, number: int) -> Point | None:
        if self._over:
            return None
        if self._chooser is not None:
            point = self._chooser.ask(number)
            if point is not None:
                self.running(number, point)
            return point
        trial = self._study.ask(self._distributions)
        self._trials[number] = trial
        return dict(trial.params)

    def running(self, number: int, point: Point) -> None:
        if not self._space.holds(point):
            return  # somebody has changed the ranges since
        self._study.enqueue_trial(dict(point))
        self._trials[number] = self._study.ask(self._distributions)

    def prunes(self, number: int, steps: Steps) -> bool:
        trial = self._trials.get(number)
        if trial is None:
            return False
        for iteration, value in self._new(number, steps):
            trial.report(value, iteration)
            if iteration >= self._least and trial.should_prune():
                return True
        return False

    def _new(self, number: int, steps: Steps) -> Steps:
        last = self._heard.get(number, -1)
        fresh = [step for step in steps if step[0] > last]
        if fresh:
            self._heard[number] = fresh[-1][0]
        return fresh

    def ended(self, number: int, point: Point, steps: Steps, how: Ended) -> None:
        trial = self._trials.pop(number, None)
        if trial is not None and trial.params != dict(point):
            # What an earlier controller has launched counts, and not what was asked for again.
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            trial = None
        state = optuna.trial.TrialState.FAIL
        if how.how == COMPLETE:
            state = optuna.trial.TrialState.COMPLETE
        elif how.how == PRUNED and how.values:
            state = optuna.trial.TrialState.PRUNED
        values = list(how.values or ()) if state.name == "COMPLETE" else None
        if trial is not None:
            for iteration, value in self._new(number, steps):
                trial.report(value, iteration)
            self._study.tell(trial, values, state)
        elif self._space.holds(point):
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    values=None if state.name == "FAIL" else list(how.values or ()),
                    params=dict(point),
                    distributions=self._distributions,
                    intermediate_values=dict(steps),
                )
            )


def _distribution(axis: Axis) -> Any:
    distributions = optuna.distributions
    if axis.kind == CHOICE:
        return distributions.CategoricalDistribution(tuple(range(int(axis.high) + 1)))
    if axis.kind == INT:
        low, high = int(axis.low), int(axis.high)
        return distributions.IntDistribution(low, high, step=int(axis.step or 1))
    return distributions.FloatDistribution(axis.low, axis.high, step=axis.step)


def _sampler(settings: SearchSettings, name: str, known: int) -> Any:
    if settings.sampler_object:
        made = _unpacked("sampler", settings.sampler_object, optuna.samplers.BaseSampler)
        if known:
            made.reseed_rng()
        return made
    said = dict(settings.sampler_arguments)
    kind = _named("sampler", settings.sampler, optuna.samplers, optuna.samplers.BaseSampler)
    if kind.__name__ == "TPESampler" and settings.max_number_of_concurrent_tasks > 1:
        # Trials that run at the same time are to look at different places.
        said.setdefault("constant_liar", True)
    seed = settings.seed
    if seed is None or known:
        # One that goes on must not draw again what has been drawn.
        words = f"{name if seed is None else seed} {known}"
        seed = int(hashlib.sha256(words.encode()).hexdigest()[:8], 16)
    return _made("sampler", kind, said, {"seed": seed})


def _pruner(settings: SearchSettings) -> Any:
    if settings.pruner is None:
        return optuna.pruners.NopPruner()
    if settings.pruner_object:
        return _unpacked("pruner", settings.pruner_object, optuna.pruners.BasePruner)
    kind = _named("pruner", settings.pruner, optuna.pruners, optuna.pruners.BasePruner)
    return _made("pruner", kind, settings.pruner_arguments, {})


def _unpacked(what: str, text: str, base: type) -> Any:
    try:
        found = pickle.loads(base64.b64decode(text))
    except Exception as error:  # of another version of Optuna, or no object at all
        raise Usage(
            f"the {what} cannot be read here: {' '.join(str(error).split())}",
            hint="is it the same version of Optuna?",
        ) from None
    if not isinstance(found, base):
        raise Usage(f"a {type(found).__name__} is no {what}")
    return found


def _named(what: str, name: str, module: Any, base: type) -> Any:
    found = getattr(module, name, None)
    if not isinstance(found, type) or not issubclass(found, base) or found is base:
        suffix = what.title()
        there = ", ".join(n for n in module.__all__ if n.endswith(suffix) and n != f"Base{suffix}")
        raise Usage(f"Optuna has no {what} {name!r}", hint=f"it has {there}")
    return found


def _made(what: str, kind: Any, said: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    known = inspect.signature(kind).parameters
    if unknown := [name for name in said if name not in known]:
        words = f"{kind.__name__} does not know {', '.join(unknown)}"
        raise Usage(words, hint=f"it knows {', '.join(known)}")
    given = {**{n: v for n, v in defaults.items() if n in known}, **said}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind(**given)
    except Exception as error:
        raise Usage(f"{kind.__name__} cannot be made so: {' '.join(str(error).split())}") from None
