"""Engines that act by themselves: by the clock, by events, in search of something.

What programs see of them is in `clearflow`; and here too, where scripts for ClearML look for it:
`from clearflow.automation import TaskScheduler`.
"""

from __future__ import annotations

import sys

# The name alone is what type checkers know; importing `typing` would take longer than the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PUBLIC = frozenset(
    {
        "DiscreteParameterRange",
        "GridSearch",
        "HyperParameterOptimizer",
        "LogUniformParameterRange",
        "Monitor",
        "OptimizerBOHB",
        "OptimizerOptuna",
        "ParameterSet",
        "PipelineController",
        "PipelineDecorator",
        "RandomSearch",
        "SlackMonitor",
        "TaskScheduler",
        "TriggerScheduler",
        "UniformIntegerParameterRange",
        "UniformParameterRange",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The package has been imported before anything in it, and knows where its names live.
    return getattr(sys.modules[__name__.partition(".")[0]], name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
