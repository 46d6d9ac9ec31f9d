"""What a step will return: a promise that can be passed on, and is kept when somebody looks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from clearflow.errors import ClearflowError

if TYPE_CHECKING:
    from clearflow.client.pipelines.components import Running
    from clearflow.client.pipelines.steps import Step


class StepFailed(ClearflowError):
    """The step did not complete: there is nothing that it returned."""


class Promise:
    """Stands for one thing that a step returns, and behaves like it: then it waits for the step.

    As an argument of another component it is passed on without being looked at.
    """

    def __init__(self, running: Running, step: Step, name: str) -> None:
        self.__dict__.update(_running=running, _step=step, _name=name)

    def __getattr__(self, name: str) -> Any:
        return getattr(value_of(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(value_of(self), name, value)


def reference_of(promise: Promise) -> str:
    """How a promise stands in the parameters of another step."""
    own = promise.__dict__
    return f"${{{own['_step'].name}.artifacts.{own['_name']}}}"


def value_of(thing: Any) -> Any:
    """The object itself, with all promises in it kept. Raises StepFailed."""
    if isinstance(thing, Promise):
        own = thing.__dict__
        if "_value" not in own:
            own["_running"].until(own["_step"])
            own["_value"] = _fetched(own["_step"], own["_name"])
        return own["_value"]
    if type(thing) in (list, tuple):
        return type(thing)(value_of(each) for each in thing)
    if type(thing) is dict:
        return {key: value_of(each) for key, each in thing.items()}
    return thing


def _fetched(step: Step, name: str) -> Any:
    if step.status not in {"completed", "cached"} or step.job is None:
        why = f": {step.reason}" if step.reason else ""
        raise StepFailed(f"the step {step.name!r} {step.status}{why}")
    return step.job.artifacts[name].get()


def referring(thing: Any) -> Any:
    """An argument with references in place of promises, however deep."""
    if isinstance(thing, Promise):
        return reference_of(thing)
    if type(thing) in (list, tuple):
        return [referring(each) for each in thing]
    if isinstance(thing, Mapping) and type(thing) is dict:
        return {key: referring(each) for key, each in thing.items()}
    return thing


def _forwarded(name: str) -> Callable[..., Any]:
    def forward(self: Promise, *args: Any) -> Any:
        return getattr(value_of(self), name)(*(value_of(each) for each in args))

    return forward


def _applied(act: Callable[..., Any]) -> Callable[..., Any]:
    def apply(self: Promise, *args: Any) -> Any:
        return act(value_of(self), *(value_of(each) for each in args))

    return apply


def _reflected(name: str) -> Callable[..., Any]:
    def reflect(self: Promise, other: Any) -> Any:
        return getattr(operator, name)(value_of(other), value_of(self))

    return reflect


_BINARY = "add and floordiv lshift matmul mod mul or pow rshift sub truediv xor"
_SINGLE = "abs eq ge gt index inv invert le lt ne neg pos"
_BUILT_IN: tuple[Callable[..., Any], ...] = (
    bool, bytes, complex, divmod, float, format, hash, int, iter, len, repr, reversed, round, str,
)  # fmt: skip
_OTHERS = "call contains getitem setitem delitem enter exit fspath"

for _name in _BINARY.split():
    setattr(Promise, f"__{_name}__", _applied(getattr(operator, f"__{_name}__")))
    setattr(Promise, f"__r{_name}__", _reflected(f"__{_name}__"))
for _name in _SINGLE.split():
    setattr(Promise, f"__{_name}__", _applied(getattr(operator, f"__{_name}__")))
for _act in _BUILT_IN:
    setattr(Promise, f"__{_act.__name__}__", _applied(_act))
for _name in _OTHERS.split():
    setattr(Promise, f"__{_name}__", _forwarded(f"__{_name}__"))
