"""Pipelines as ordinary Python: functions that are steps, and one that calls them.

@component(return_values=["data"], cache=True)
def fetch(day): …

@pipeline(name="daily", project="Weather")
def daily(day="2024-05-03"):
    data = fetch(day)
    if len(data) > 100:              # waits for the step
        report(data)                 # passes the artifact on; it is not loaded here
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from clearflow.client import calling, door, functions
from clearflow.client.logger import Logger
from clearflow.client.pipelines import local
from clearflow.client.pipelines.engine import Engine
from clearflow.client.pipelines.pipeline import Pipeline
from clearflow.client.pipelines.proxy import Promise, referring, value_of
from clearflow.client.pipelines.steps import Step
from clearflow.errors import ClearflowError, Usage
from clearflow.words import references
from clearflow.words.parameters import ARGS

F = TypeVar("F", bound=Callable[..., Any])

HERE, STEPS_HERE, DEBUG = "controller here", "steps here", "debug"


class Running(Pipeline):
    """A pipeline that gets its steps while it runs; `everywhere` is the queue of all of them."""

    everywhere: str | None = None

    def begin(self, queue: str | None) -> None:
        """Hear of the steps from now on, in a thread of its own."""
        self._connect()
        self._queue = queue or self._queue
        self._began = time.monotonic()
        self._engine = Engine(self, self._task, self._graph, self._parameters, self._queue)
        if self._limit is not None:
            self._engine.until = self._began + self._limit
        self._engine.begin()
        self._over = threading.Event()
        self._calls: dict[str, int] = {}
        threading.Thread(target=self._follow, daemon=True, name="clearflow-pipeline").start()

    @property
    def engine(self) -> Engine:
        assert self._engine is not None
        return self._engine

    def _follow(self) -> None:
        engine = self.engine
        while not self._over.is_set():
            try:
                engine.turn()
            except BaseException as error:
                with engine.changed:
                    engine.error = error
                    engine.changed.notify_all()
                return

    def call(self, component: Component, given: Mapping[str, Any]) -> Any:
        """A further step, and promises of what it will return."""
        engine = self.engine
        with engine.changed:
            name = self._free(component.name)
            kwargs = {key: referring(value) for key, value in given.items()}
            self.add_function_step(name, component.function, kwargs, **component.options)
            step = self._step_named(name)
            for parent in step.parents:
                references.check(name, f"${{{parent}.id}}", self._graph.nodes, ())
            step.queue = self.everywhere or step.queue
            engine.go_on()
            engine.changed.notify_all()
        names = list(step.returns) or [calling.RESULT]
        promises = [Promise(self, step, each) for each in names]
        return promises[0] if len(promises) == 1 else tuple(promises)

    def _free(self, name: str) -> str:
        number = self._calls[name] = self._calls.get(name, 0) + 1
        return name if number == 1 else f"{name}_{number}"

    def _step_named(self, name: str) -> Step:
        step = self._graph.nodes[name]
        assert isinstance(step, Step)
        return step

    def until(self, step: Step) -> None:
        """Wait until a step has ended."""
        engine = self.engine
        with engine.changed:
            engine.changed.wait_for(lambda: step.over or engine.error is not None)
            if not step.over and engine.error is not None:
                raise engine.error

    def finish(self) -> bool:
        """Wait for all steps, and say how it went."""
        engine = self.engine
        with engine.changed:
            engine.changed.wait_for(lambda: self._graph.over or engine.error is not None)
        self._over.set()
        if engine.error is not None and not self._graph.over:
            raise engine.error
        return self._finish(engine)


_current: Running | None = None
_mode: str | None = None
_default_queue: str | None = None


class Component:
    """A function that is a step when a pipeline calls it, and a function otherwise."""

    def __init__(self, function: Callable[..., Any], name: str, options: Mapping[str, Any]) -> None:
        self.function, self.name, self.options = function, name, dict(options)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _current is None:
            return self.function(*args, **kwargs)
        try:
            bound = inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise Usage(f"the component {self.name!r}: {error}") from None
        for kind in inspect.signature(self.function).parameters.values():
            if kind.kind in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD, kind.POSITIONAL_ONLY):
                raise Usage(f"the component {self.name!r}: every argument needs a name of its own")
        return _current.call(self, bound.arguments)


@overload
def component(_func: F) -> F: ...
@overload
def component(**options: Any) -> Callable[[F], F]: ...
def component(
    _func: Callable[..., Any] | None = None,
    *,
    return_values: Sequence[str] | str = (),
    name: str | None = None,
    cache: bool = False,
    queue: str | None = None,
    execution_queue: str | None = None,
    packages: Sequence[str] | str | None = None,
    docker: str | None = None,
    parents: Sequence[str] | None = None,
    continue_on_fail: bool = False,
    monitor_metrics: Sequence[Any] | None = None,
    monitor_artifacts: Sequence[Any] | None = None,
    time_limit: float | None = None,
    retry_on_failure: int | Callable[..., bool] | None = None,
    retry_delay: float | None = None,
    task_overrides: Mapping[str, Any] | None = None,
    pre_execute_callback: Callable[..., Any] | None = None,
    post_execute_callback: Callable[..., Any] | None = None,
    status_change_callback: Callable[..., Any] | None = None,
    tags: Sequence[str] | None = None,
    repo: str | None = None,
    repo_branch: str | None = None,
    repo_commit: str | None = None,
    **unused: Any,
) -> Any:
    """Make a function a step of the pipelines that call it.

    Args:
        return_values: names for what it returns; with several it returns as many promises.
        name: of its steps; the function's without one. Further calls have a number behind it.
        cache: take what it returned before for the same code, arguments and contents.
        queue: where its steps wait; also `execution_queue`.

    The others are those of `Pipeline.add_function_step`.
    """
    options = {
        "function_return": return_values,
        "cache_executed_step": cache,
        "execution_queue": execution_queue or queue,
        "packages": packages,
        "docker": docker,
        "parents": parents,
        "continue_on_fail": continue_on_fail,
        "monitor_metrics": monitor_metrics,
        "monitor_artifacts": monitor_artifacts,
        "time_limit": time_limit,
        "retry_on_failure": retry_on_failure,
        "retry_delay": retry_delay,
        "task_overrides": task_overrides,
        "pre_execute_callback": pre_execute_callback,
        "post_execute_callback": post_execute_callback,
        "status_change_callback": status_change_callback,
        "tags": tags,
        "repo": repo,
        "repo_branch": repo_branch,
        "repo_commit": repo_commit,
    }

    def decorate(function: Callable[..., Any]) -> Component:
        return Component(function, name or function.__name__, options)

    return decorate if _func is None else decorate(_func)


@overload
def pipeline(_func: F) -> F: ...
@overload
def pipeline(**options: Any) -> Callable[[F], F]: ...
def pipeline(
    _func: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    project: str | None = None,
    version: str | None = None,
    return_value: str | None = None,
    default_queue: str | None = None,
    pipeline_execution_queue: str | None = "services",
    abort_on_failure: bool = False,
    add_pipeline_tags: bool = False,
    target_project: str | None = None,
    retry_on_failure: int | Callable[..., bool] | None = None,
    retry_delay: float = 0.0,
    packages: Sequence[str] | str | None = None,
    docker: str | None = None,
    start_controller_locally: bool = False,
    **unused: Any,
) -> Any:
    """Make a function a pipeline: calling it sends it to `pipeline_execution_queue`.

    Its arguments are parameters of the task, `Args/<name>`. In the function components are steps.
    With None for the queue, or `start_controller_locally`, it runs here, and its steps in their
    queues.

    Args:
        return_value: a name under which what it returns is kept with its task.
        default_queue: the queue of components that name none.

    The others are those of `Pipeline`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            if _mode == DEBUG:
                return function(*args, **kwargs)
            running = Running(
                name or function.__name__,
                project,
                version,
                add_pipeline_tags,
                target_project,
                abort_on_failure,
                retry_on_failure,
                retry_delay,
                docker,
                packages,
            )
            for key, value in bound.arguments.items():
                running.add_parameter(key, value)
            here = door.inside() or start_controller_locally or _mode is not None
            if pipeline_execution_queue and not here:
                running.task.connect(running.get_parameters(), name=ARGS)
                running.task.execute_remotely(pipeline_execution_queue)
            return _run(running, function, default_queue or _default_queue, return_value)

        return run

    return decorate if _func is None else decorate(_func)


def _run(
    running: Running, function: Callable[..., Any], queue: str | None, keep: str | None
) -> Any:
    if _mode == STEPS_HERE and not door.inside():
        with local.agent(running.id) as here:
            running.everywhere = here
            return _in(running, function, here, keep)
    return _in(running, function, queue, keep)


def _in(running: Running, function: Callable[..., Any], queue: str | None, keep: str | None) -> Any:
    global _current
    if _current is not None:
        raise Usage("a pipeline runs already: it cannot call another one")
    running.begin(queue)
    _current = running
    try:
        result = value_of(function(**running.get_parameters()))
    except ClearflowError as error:
        running.engine.stop(error.message)
        running.finish()
        raise SystemExit(f"clearflow: {error.message}") from None
    finally:
        _current = None
    good = running.finish()
    if good and keep is not None:
        functions.keep(running.task, keep, result)
    return result


class PipelineDecorator:
    """The decorators under ClearML's name, and how their pipelines run."""

    pipeline = staticmethod(pipeline)
    component = staticmethod(component)

    @staticmethod
    def run_locally() -> None:
        """Pipelines that are called from now on run here with all of their steps."""
        global _mode
        _mode = STEPS_HERE

    @staticmethod
    def debug_pipeline() -> None:
        """Pipelines that are called from now on are functions that call functions, here."""
        global _mode
        _mode = DEBUG

    @staticmethod
    def set_default_execution_queue(default_execution_queue: str | None) -> None:
        """The queue of components that name none."""
        global _default_queue
        _default_queue = default_execution_queue

    @staticmethod
    def get_current_pipeline() -> Pipeline | None:
        """The pipeline that runs in this program; None when there is none."""
        return _current

    @staticmethod
    def get_logger() -> Logger:
        """What reports to the task of the pipeline that runs. Raises Usage without one."""
        if _current is None:
            raise Usage("no pipeline runs here")
        return _current.get_logger()

    @staticmethod
    def upload_artifact(name: str, artifact_object: Any, **more: Any) -> bool:
        """Keep an object with the pipeline that runs. Raises Usage without one."""
        if _current is None:
            raise Usage("no pipeline runs here")
        return _current.upload_artifact(name, value_of(artifact_object), **more)
