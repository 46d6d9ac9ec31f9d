"""Pipelines as programs describe them: their parameters and their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clearflow.client import calling
from clearflow.client.functions import as_parameters, check_arguments, located
from clearflow.client.pipelines.steps import (
    Step,
    behaviour,
    origin_of,
    retries_of,
    sections,
    variables_of,
)
from clearflow.client.task import Task
from clearflow.errors import Usage
from clearflow.words.graph import Graph, Node

VERSION = "version"


class Described:
    """What a pipeline is made of."""

    def __init__(
        self,
        name: str,
        project: str | None = None,
        version: str | None = None,
        add_pipeline_tags: bool = False,
        target_project: str | bool | None = None,
        abort_on_failure: bool = False,
        retry_on_failure: int | Callable[..., bool] | None = None,
        retry_delay: float = 0.0,
        docker: str | None = None,
        packages: Sequence[str] | str | None = None,
        **unused: Any,
    ) -> None:
        """Make this program the controller of a pipeline: the task of this name and project.

        Args:
            name: of the pipeline.
            project: a name to group by.
            version: kept with the task as the property `version`.
            add_pipeline_tags: whether its steps carry the tag `pipeline: <name>`.
            target_project: where its steps belong; the project of the pipeline without it.
            abort_on_failure: whether all ends as soon as one step has failed.
            retry_on_failure: how often a step that failed is tried again, or a function of the
                pipeline, the step and the number of tries that says whether it is.
            retry_delay: seconds before the second try, doubled before each further one.
            docker: the image of its function steps.
            packages: what its function steps need; what this program needs without it.

        Further arguments that ClearML knows have no effect.
        """
        if calling.in_function():
            raise Usage(
                "this file begins a pipeline while a step loads it",
                hint="put the pipeline under `if __name__ == '__main__':`",
            )
        self.name, self.version = name, version
        self._task = Task.current_task() or Task.init(project, name)
        if version is not None:
            self._task.set_user_properties(**{VERSION: version})
        self._tags = [f"pipeline: {name}"] if add_pipeline_tags else []
        self._target = target_project if isinstance(target_project, str) else None
        self._retry, self._delay = retry_on_failure, float(retry_delay)
        self._docker, self._packages = docker, packages
        self._graph = Graph(abort_on_failure)
        self._parameters: dict[str, Any] = {}
        self._queue: str | None = None
        self._limit: float | None = None

    # -- what it is made of -------------------------------------------------------------------

    def add_parameter(
        self, name: str, default: Any = None, description: str | None = None, **unused: Any
    ) -> None:
        """A parameter of the pipeline, `Args/<name>` of its task, for `${pipeline.<name>}`."""
        self._parameters[name] = default

    def get_parameters(self) -> dict[str, Any]:
        """The parameters by name, as they are now."""
        return dict(self._parameters)

    def set_default_execution_queue(self, default_execution_queue: str | None) -> None:
        """The queue of steps that name none."""
        self._queue = default_execution_queue

    def set_pipeline_execution_time_limit(self, max_execution_minutes: float | None) -> None:
        """How long all of it may take; then its steps are aborted, and it has failed."""
        self._limit = None if max_execution_minutes is None else max_execution_minutes * 60

    def add_step(
        self,
        name: str,
        base_task_id: str | None = None,
        parents: Sequence[str] | str | None = None,
        parameter_override: Mapping[str, Any] | None = None,
        configuration_overrides: Mapping[str, Any] | None = None,
        task_overrides: Mapping[str, Any] | None = None,
        execution_queue: str | None = None,
        monitor_metrics: Sequence[Any] | None = None,
        monitor_artifacts: Sequence[Any] | None = None,
        time_limit: float | None = None,
        base_task_project: str | None = None,
        base_task_name: str | None = None,
        clone_base_task: bool = True,
        continue_on_fail: bool = False,
        pre_execute_callback: Callable[..., Any] | None = None,
        post_execute_callback: Callable[..., Any] | None = None,
        status_change_callback: Callable[..., Any] | None = None,
        cache_executed_step: bool = False,
        retry_on_failure: int | Callable[..., bool] | None = None,
        retry_delay: float | None = None,
        continue_behaviour: Mapping[str, bool] | None = None,
        base_task_tags: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        **unused: Any,
    ) -> bool:
        """A step that runs a task like another one.

        Args:
            name: of the step.
            base_task_id: the task that is cloned; or the latest of `base_task_project`,
                `base_task_name` and `base_task_tags`, looked for when the pipeline starts.
            parents: the steps before it, besides those that its parameters refer to.
            parameter_override: parameters such as `{"Args/lr": "${pipeline.lr}"}`.
            configuration_overrides: configurations by name, as text or dictionaries.
            task_overrides: what it asks of its machine, such as `{"image": "python:3.12"}`; its
                code too: `script.repository`, `script.branch`, `script.version_num` (a commit).
            execution_queue: where it waits; the default queue without it.
            monitor_metrics: scalars that the pipeline shows too: (title, series), or two of these.
            monitor_artifacts: artifacts that the pipeline keeps too: names, or pairs of names.
            time_limit: seconds that it may run; then it is aborted, and has failed.
            clone_base_task: False to queue the base task itself, a draft, with all of this.
            continue_on_fail: whether its failure leaves the pipeline a good one.
            pre_execute_callback: called with the pipeline, the step and its parameters, which it
                may change, before it starts; skipped with all that comes after it, if False.
            post_execute_callback: called with the pipeline and the step after its end.
            status_change_callback: called with them and the status before.
            cache_executed_step: take the latest task that has completed with the same code,
                parameters and contents of artifacts, if there is one.
            retry_on_failure: as for the pipeline, whose word counts without it.
            retry_delay: likewise.
            continue_behaviour: `continue_on_fail`, `continue_on_abort`, and with these
                `skip_children_on_fail`, `skip_children_on_abort` (True) by name.
            tags: of its task.

        After a controller was killed the callbacks of finished steps are called again: the new
        process has forgotten them. Raises Usage for what cannot be.
        """
        selector = {"project": base_task_project, "name": base_task_name}
        if base_task_id is None and not any(selector.values()) and not base_task_tags:
            raise Usage(f"the step {name!r} has nothing to run", hint="name its base task")
        step = self._step(
            name,
            parents,
            retry_on_failure,
            retry_delay,
            behaviour(continue_on_fail, continue_behaviour),
        )
        step.base_task_id = base_task_id
        step.selector = {**selector, "tags": list(base_task_tags or ())}
        step.parameters = sections(parameter_override or {})
        step.configurations = dict(configuration_overrides or {})
        step.variables, step.origin = variables_of(task_overrides), origin_of(task_overrides)
        step.queue, step.time_limit, step.clone = execution_queue, time_limit, clone_base_task
        step.cache = cache_executed_step
        step.told(pre_execute_callback, post_execute_callback, status_change_callback)
        step.shown(monitor_metrics, monitor_artifacts)
        step.tags = [*self._tags, *(tags or ())]
        return self._add(step)

    def add_function_step(
        self,
        name: str,
        function: Callable[..., Any],
        function_kwargs: Mapping[str, Any] | None = None,
        function_return: Sequence[str] | str | None = None,
        parents: Sequence[str] | str | None = None,
        execution_queue: str | None = None,
        packages: Sequence[str] | str | None = None,
        docker: str | None = None,
        task_overrides: Mapping[str, Any] | None = None,
        monitor_metrics: Sequence[Any] | None = None,
        monitor_artifacts: Sequence[Any] | None = None,
        time_limit: float | None = None,
        continue_on_fail: bool = False,
        pre_execute_callback: Callable[..., Any] | None = None,
        post_execute_callback: Callable[..., Any] | None = None,
        status_change_callback: Callable[..., Any] | None = None,
        cache_executed_step: bool = False,
        retry_on_failure: int | Callable[..., bool] | None = None,
        retry_delay: float | None = None,
        continue_behaviour: Mapping[str, bool] | None = None,
        tags: Sequence[str] | None = None,
        repo: str | None = None,
        repo_branch: str | None = None,
        repo_commit: str | None = None,
        **unused: Any,
    ) -> bool:
        """A step that runs a function of this program, or of a module beside it.

        Args:
            name: of the step.
            function: at the top level of a file; it travels with all that it uses.
            function_kwargs: its arguments; `${step.artifacts.name}` is the object itself.
            function_return: names for what it returns, its artifacts; `return_object` without.
            packages: what it needs, instead of what this program needs.
            docker: the image in which it runs.
            repo: a repository that has the same file, instead of the code of this program.
            repo_branch, repo_commit: of that repository, or of the one that this program lies in.

        The others are as for `add_step`. Raises Usage for what cannot be.
        """
        located(function)
        kwargs = dict(function_kwargs or {})
        check_arguments(function, kwargs)
        step = self._step(
            name,
            parents,
            retry_on_failure,
            retry_delay,
            behaviour(continue_on_fail, continue_behaviour),
        )
        returns = [function_return] if isinstance(function_return, str) else function_return
        step.function, step.returns = function, list(returns or ())
        step.parameters = as_parameters(kwargs)
        step.variables = variables_of(
            task_overrides, packages or self._packages, docker or self._docker
        )
        step.origin = origin_of(task_overrides, repo, repo_branch, repo_commit)
        step.queue, step.time_limit, step.cache = execution_queue, time_limit, cache_executed_step
        step.told(pre_execute_callback, post_execute_callback, status_change_callback)
        step.shown(monitor_metrics, monitor_artifacts)
        step.tags = [*self._tags, *(tags or ())]
        return self._add(step)

    def _step(
        self,
        name: str,
        parents: Sequence[str] | str | None,
        retry: int | Callable[..., bool] | None,
        delay: float | None,
        behaves: Mapping[str, bool],
    ) -> Step:
        retries, decide = retries_of(self._retry if retry is None else retry)
        before = [parents] if isinstance(parents, str) else list(parents or ())
        step = Step(name, before, retries, self._delay if delay is None else float(delay))
        for key, value in behaves.items():
            setattr(step, key, value)
        step.retry, step.project = decide, self._target
        return step

    def _add(self, step: Step) -> bool:
        step.parents = list(dict.fromkeys([*step.parents, *step.refers_to()]))
        self._graph.add(step)
        return True

    def _steps(self) -> list[Step]:
        return [_as_step(node) for node in self._graph.nodes.values()]


def _as_step(node: Node) -> Step:
    assert isinstance(node, Step)
    return node
