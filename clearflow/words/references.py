"""References in the parameters of steps: what comes of other steps, and of the pipeline.

    ${step.id}                           the id of the step's task
    ${step.parameters.Args/lr}           a parameter of it
    ${step.artifacts.data}               its artifact; a function gets the object
    ${step.artifacts.data.url}           the address of it; also hash, size, preview, type
    ${step.models.output.-1}             its last model; also .url
    ${pipeline.query_date}               a parameter of the pipeline

Also used inside of tasks, so it keeps to Python 3.9.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clearflow.errors import Usage

PIPELINE = "pipeline"
_PATTERN = re.compile(r"\$\{([^{}]*)\}")
_ABOUT = ("url", "hash", "size", "preview", "type")
_ARTIFACT = "artifact:"
_ADDRESS = "clearflow://"
_HINT = "such as ${step.artifacts.data}, ${step.parameters.Args/lr}, ${step.id}, ${pipeline.x}"


@dataclass(frozen=True)
class Reference:
    """One reference: of which step (or `pipeline`), what kind of thing, its name, what of it."""

    step: str
    kind: str
    name: str = ""
    about: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """From what stands between the braces. Raises Usage."""
        step, _, rest = text.strip().partition(".")
        if step == PIPELINE and rest:
            return cls(step, PIPELINE, rest)
        kind, _, name = rest.partition(".")
        if kind in {"id", "status"} and not name:
            return cls(step, kind)
        if kind == "parameters" and name:
            return cls(step, kind, name)
        if kind in {"artifacts", "artifact"} and name:
            head, _, about = name.rpartition(".")
            return cls(step, "artifacts", *((head, about) if about in _ABOUT else (name, "")))
        if kind == "models" and name:
            which, _, rest = name.partition(".")
            number, _, about = rest.partition(".")
            if which in {"output", "input"} and number:
                return cls(step, kind, f"{which}.{number}", about)
        raise Usage(f"nobody knows what ${{{text}}} stands for", hint=_HINT)


def found(value: Any) -> Iterator[Reference]:
    """All references in a value, however deep. Raises Usage for one that means nothing."""
    if isinstance(value, str):
        for match in _PATTERN.finditer(value):
            yield Reference.parse(match.group(1))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from found(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from found(each)


def steps_of(value: Any) -> list[str]:
    """The names of the steps that a value refers to, each once."""
    return list(dict.fromkeys(r.step for r in found(value) if r.step != PIPELINE))


def filled(value: Any, look: Callable[[Reference], Any]) -> Any:
    """The value with what its references stand for; one that stands alone keeps its type."""
    if isinstance(value, str):
        whole = _PATTERN.fullmatch(value)
        if whole:
            return look(Reference.parse(whole.group(1)))
        return _PATTERN.sub(lambda m: str(look(Reference.parse(m.group(1)))), value)
    if isinstance(value, Mapping):
        return {key: filled(each, look) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(each, look) for each in value]
    return value


def check(step: str, value: Any, steps: Collection[str], parameters: Collection[str]) -> None:
    """Raise Usage when a step refers to a step or a parameter that there is not."""
    for each in found(value):
        if each.step == PIPELINE:
            if each.name not in parameters:
                raise Usage(
                    f"the step {step!r} refers to ${{pipeline.{each.name}}}, which the pipeline"
                    " does not have",
                    hint=f"it has: {', '.join(parameters) or 'no parameters'}",
                )
        elif each.step not in steps or each.step == step:
            raise Usage(
                f"the step {step!r} refers to {each.step!r}, which is no other step",
                hint=f"there are: {', '.join(s for s in steps if s != step) or 'none'}",
            )


# -- artifacts in parameters ------------------------------------------------------------------


def artifact(task: str, name: str) -> str:
    """How an artifact stands in the parameters of a function: it gets the object."""
    return f"{_ARTIFACT}{task}/{name}"


def address(task: str, name: str) -> str:
    """The address of an artifact, which is passed on as it is."""
    return f"{_ADDRESS}{task}/{name}"


def artifact_of(value: Any, addresses: bool = False) -> tuple[str, str] | None:
    """The task and name of an artifact that a value stands for; None for any other value."""
    if isinstance(value, str):
        for prefix in (_ARTIFACT, _ADDRESS) if addresses else (_ARTIFACT,):
            if value.startswith(prefix):
                task, _, name = value[len(prefix) :].partition("/")
                return (task, name) if task and name else None
    return None


def artifacts_in(value: Any) -> list[tuple[str, str]]:
    """All artifacts that a value stands for or names, however deep, each once."""
    if isinstance(value, Mapping):
        several = [each for inner in value.values() for each in artifacts_in(inner)]
    elif isinstance(value, (list, tuple)):
        several = [each for inner in value for each in artifacts_in(inner)]
    else:
        one = artifact_of(value, addresses=True)
        several = [] if one is None else [one]
    return list(dict.fromkeys(several))
