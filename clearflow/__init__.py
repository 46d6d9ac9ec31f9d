"""clearflow: ordered queues and fast agents for Prefect.

Importing this costs nothing: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module

# The name alone is what type checkers know; importing `typing` would take longer than the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from clearflow.apps.monitor import Monitor, SlackMonitor
    from clearflow.client.dataset import Dataset
    from clearflow.client.flows import enqueue
    from clearflow.client.model import Model
    from clearflow.client.models import InputModel, OutputModel
    from clearflow.client.optimizer import HyperParameterOptimizer
    from clearflow.client.optimizers import (
        GridSearch,
        OptimizerBOHB,
        OptimizerOptuna,
        RandomSearch,
    )
    from clearflow.client.pipelines.components import PipelineDecorator, component, pipeline
    from clearflow.client.pipelines.pipeline import Pipeline
    from clearflow.client.pipelines.pipeline import Pipeline as PipelineController
    from clearflow.client.scheduler import TaskScheduler
    from clearflow.client.task import Task
    from clearflow.client.triggers import TriggerScheduler
    from clearflow.queues import Queue
    from clearflow.words.spaces import (
        DiscreteParameterRange,
        LogUniformParameterRange,
        ParameterSet,
        UniformIntegerParameterRange,
        UniformParameterRange,
    )

    __version__: str

__all__ = [
    "Dataset",
    "DiscreteParameterRange",
    "GridSearch",
    "HyperParameterOptimizer",
    "InputModel",
    "LogUniformParameterRange",
    "Model",
    "Monitor",
    "OptimizerBOHB",
    "OptimizerOptuna",
    "OutputModel",
    "ParameterSet",
    "Pipeline",
    "PipelineController",
    "PipelineDecorator",
    "Queue",
    "RandomSearch",
    "SlackMonitor",
    "Task",
    "TaskScheduler",
    "TriggerScheduler",
    "UniformIntegerParameterRange",
    "UniformParameterRange",
    "__version__",
    "component",
    "enqueue",
    "pipeline",
]

_HOMES = {
    "Dataset": "clearflow.client.dataset",
    "DiscreteParameterRange": "clearflow.words.spaces",
    "GridSearch": "clearflow.client.optimizers",
    "HyperParameterOptimizer": "clearflow.client.optimizer",
    "InputModel": "clearflow.client.models",
    "LogUniformParameterRange": "clearflow.words.spaces",
    "Model": "clearflow.client.model",
    "Monitor": "clearflow.apps.monitor",
    "OptimizerBOHB": "clearflow.client.optimizers",
    "OptimizerOptuna": "clearflow.client.optimizers",
    "OutputModel": "clearflow.client.models",
    "ParameterSet": "clearflow.words.spaces",
    "Pipeline": "clearflow.client.pipelines.pipeline",
    "PipelineController": "clearflow.client.pipelines.pipeline",
    "PipelineDecorator": "clearflow.client.pipelines.components",
    "Queue": "clearflow.queues",
    "RandomSearch": "clearflow.client.optimizers",
    "SlackMonitor": "clearflow.apps.monitor",
    "Task": "clearflow.client.task",
    "TaskScheduler": "clearflow.client.scheduler",
    "TriggerScheduler": "clearflow.client.triggers",
    "UniformIntegerParameterRange": "clearflow.words.spaces",
    "UniformParameterRange": "clearflow.words.spaces",
    "component": "clearflow.client.pipelines.components",
    "enqueue": "clearflow.client.flows",
    "pipeline": "clearflow.client.pipelines.components",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("clearflow")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
