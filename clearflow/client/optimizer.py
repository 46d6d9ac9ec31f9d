"""`HyperParameterOptimizer` under ClearML's names: parameters that are searched by trials.

A search is a task of its own, which agents run: this program describes it, and may end.
"""

from __future__ import annotations

import atexit
import contextlib
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.optimizers import RandomSearch, further, kind_of, objectives_of
from clearflow.client.pipelines import local
from clearflow.client.task import Task
from clearflow.errors import ClearflowError, Usage
from clearflow.words.parameters import plain
from clearflow.words.spaces import dump

if TYPE_CHECKING:
    from clearflow.client.tasks import Tasks
    from clearflow.words.spaces import Parameter

    TaskLike = Tasks | str
    Callback = Callable[[str, float | None, int | None, Mapping[str, Any], str | None], Any]

_WAITS = 60.0  # seconds of one question


class HyperParameterOptimizer:
    """A search: copies of a task, with parameters that are chosen one after the other.

        optimizer = HyperParameterOptimizer(
            base_task_id=task.id,
            hyper_parameters=[LogUniformParameterRange("General/lr", -4, -1)],
            objective_metric_title="loss", objective_metric_series="validation",
            objective_metric_sign="min", optimizer_class=OptimizerOptuna,
            execution_queue="gpu", max_number_of_concurrent_tasks=4, total_max_jobs=40,
        )
        optimizer.start()
        optimizer.wait()
        optimizer.get_top_experiments(3)

    Several objectives are lists of titles, series and signs. Further arguments:

        total_max_jobs: so many trials at most.
        optimization_time_limit, compute_time_limit: minutes, of the search and of all trials.
        time_limit_per_job: minutes of a trial; then it is stopped, and what it reached counts.
        max_iteration_per_job: the same, by the iterations of the (first) objective.
        min_iteration_per_job: no trial is pruned before.
        optuna_sampler, sampler_arguments, optuna_pruner, pruner_arguments: see OptimizerOptuna.
        seed: the same one draws the same points again.
        continue_previous_study: an earlier search, or its task's id, to learn from.
        spawn_project: the project of the trials; that of the base task without one.
        save_top_k_tasks_only: all but so many trials are archived.
        max_failures: the search fails when so many have failed and none was good.
        task_overrides: what trials ask of their machine, such as `{"gpus": 1}`.
        name, project_name: of the search.

    What cannot work raises Usage or NotFound, in one line, at once; what is doubtful is said.
    """

    def __init__(
        self,
        base_task_id: TaskLike,
        hyper_parameters: Sequence[Parameter],
        objective_metric_title: str | Sequence[str],
        objective_metric_series: str | Sequence[str],
        objective_metric_sign: str | Sequence[str] = "min",
        optimizer_class: Any = RandomSearch,
        max_number_of_concurrent_tasks: int = 10,
        execution_queue: str | None = None,
        optimization_time_limit: float | None = None,
        compute_time_limit: float | None = None,
        spawn_project: str | None = None,
        save_top_k_tasks_only: int | None = None,
        *,
        name: str = "search",
        project_name: str | None = None,
        **optimizer_kwargs: Any,
    ) -> None:
        base = base_task_id if isinstance(base_task_id, str) else base_task_id.id
        self.name = name
        self._asked_project = project_name
        self._id: str | None = None
        self._queue = "services"
        self._following: threading.Thread | None = None
        self._here = contextlib.ExitStack()
        self._started: float | None = None
        objectives = objectives_of(
            objective_metric_title, objective_metric_series, objective_metric_sign
        )
        top = save_top_k_tasks_only
        said = {
            **kind_of(optimizer_class).settings,
            "base_task_id": base,
            "hyper_parameters": [dump(each) for each in hyper_parameters],
            "objectives": objectives,
            "max_number_of_concurrent_tasks": max_number_of_concurrent_tasks,
            "execution_queue": execution_queue,
            "optimization_time_limit": optimization_time_limit,
            "compute_time_limit": compute_time_limit,
            "spawn_project": spawn_project,
            "save_top_k_tasks_only": top if top is not None and top > 0 else None,
            **further(optimizer_kwargs),
        }
        self.settings: dict[str, Any] = plain({k: v for k, v in said.items() if v is not None})
        for doubt in door.ask("search.check", settings=self.settings):
            print(f"clearflow: {doubt}", file=sys.stderr)

    # -- starting -----------------------------------------------------------------------------

    def start(self, job_complete_callback: Callback | None = None) -> bool:
        """Have an agent of the queue `services` search; this program may end.

        The callback is called in this program, for each trial that has ended: the trial's id, the
        (first) objective, its iteration, the parameters, and the id of the best trial so far.
        """
        return self.start_remotely(self._queue, job_complete_callback)

    def start_remotely(
        self, queue: str = "services", job_complete_callback: Callback | None = None
    ) -> bool:
        """The same, by an agent of any queue. Raises NotFound for one that is not there."""
        self._only_once()
        made = door.ask(
            "search.start",
            settings=self.settings,
            name=self.name,
            project=self.project_name,
            queue=queue,
        )
        self._begun(made["id"], job_complete_callback)
        print(f"clearflow: search {made['id']} waits in {queue}: {made['url']}", file=sys.stderr)
        return True

    def start_locally(self, job_complete_callback: Callback | None = None) -> bool:
        """The same, by an agent that this program starts on this machine, for the trials too.

        It ends with the search; and the search with this program, which should `wait`.
        """
        self._only_once()
        slots = int(self.settings["max_number_of_concurrent_tasks"]) + 1
        queue = self._here.enter_context(local.agent(secrets.token_hex(4), "search", slots))
        self.settings["execution_queue"] = queue
        atexit.register(self._end_here)
        try:
            return self.start_remotely(queue, job_complete_callback)
        except ClearflowError:
            self._end_here()
            raise

    def _end_here(self) -> None:
        """Nothing of it goes on here when the program ends."""
        atexit.unregister(self._end_here)
        with contextlib.suppress(ClearflowError, TimeoutError):
            if self.is_active():
                self.task.abort()
                self.task.wait(_WAITS)
        self._here.close()

    def _only_once(self) -> None:
        if self._id is not None:
            raise Usage("this search has been started", hint="make another one, or clone its task")

    def _begun(self, id: str, callback: Callback | None) -> None:
        self._id, self._started = id, time.monotonic()
        if callback is not None:
            self._following = threading.Thread(
                target=self._follow, args=(callback,), name="clearflow-search", daemon=True
            )
            self._following.start()

    def _follow(self, callback: Callback) -> None:
        told: set[str] = set()
        news: dict[str, Any] = {"over": False}
        while not news["over"]:
            try:
                news = door.ask("search.await", task=self._id, ended=len(told), timeout=_WAITS)
            except ClearflowError as error:
                print(f"clearflow: the search cannot be followed: {error}", file=sys.stderr)
                return
            ended = [t for t in news["trials"] if t["iteration"] is not None]
            best = next((t["task_id"] for t in ended if t["status"] == "complete"), None)
            for trial in sorted(ended, key=lambda each: int(each["trial"])):
                if trial["task_id"] not in told:
                    told.add(trial["task_id"])
                    value = next(iter(trial["metrics"].values()), None)
                    words = trial["hyper_parameters"]
                    callback(trial["task_id"], value, trial["iteration"], words, best)

    # -- while it goes on ---------------------------------------------------------------------

    @property
    def project_name(self) -> str:
        """The project that it is shown in: that of the base task where nothing else was said."""
        if self._asked_project is None:
            base = door.ask("describe", task=self.settings["base_task_id"])
            self._asked_project = str(base["project"] or "Searches")
        return self._asked_project

    @property
    def task(self) -> Task:
        """The search's own task. Raises Usage before it was started."""
        if self._id is None:
            raise Usage("this search has not been started", hint="start() does it")
        return Task(self._id, self.name)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over, at most so many minutes; whether it is, and was not in vain."""
        seconds = None if timeout is None else timeout * 60
        try:
            status = self.task.wait(seconds)
        except TimeoutError:
            return False
        if self._following is not None:
            self._following.join(_WAITS)
        self._end_here()
        return status == "completed"

    def stop(self, timeout: float | None = None, wait_for_reporter: bool = True) -> None:
        """Abort it, and with it its trials; nothing happens when it is over."""
        task = self.task
        if self._is_over(task.status):
            return
        task.abort()
        if wait_for_reporter:
            self.wait(timeout)

    def is_active(self) -> bool:
        """Whether it was started, and is not over."""
        return self._id is not None and not self._is_over(self.task.status)

    def is_running(self) -> bool:
        """Whether it runs."""
        return self._id is not None and self.task.status == "running"

    @staticmethod
    def _is_over(status: str) -> bool:
        return status in ("completed", "failed", "crashed", "aborted", "draft")

    def elapsed(self) -> float:
        """Minutes since it was started here; -1 before that."""
        return -1.0 if self._started is None else (time.monotonic() - self._started) / 60

    def set_time_limit(
        self, in_minutes: float | None = None, specific_time: datetime | None = None
    ) -> None:
        """When all of it ends: in so many minutes, or at a moment; with neither not by time.

        Before the start the minutes count from the start, later from now. Raises Refused when it
        is over.
        """
        if specific_time is not None:
            in_minutes = (specific_time - datetime.now(specific_time.tzinfo)).total_seconds() / 60
        if in_minutes is not None and in_minutes <= 0:
            raise Usage("that moment has passed")
        self.settings.pop("optimization_time_limit", None)
        if in_minutes is not None:
            self.settings["optimization_time_limit"] = float(in_minutes)
        if self._id is not None:
            door.ask("search.limit", task=self._id, minutes=in_minutes)

    def get_time_limit(self) -> float | None:
        """Minutes for all of it."""
        return self.settings.get("optimization_time_limit")

    def set_report_period(self, report_period_minutes: float) -> None:
        """Minutes between two reports: the table and pictures among the artifacts of its task."""
        self._only_once()
        self.settings["report_period_minutes"] = float(report_period_minutes)

    # -- trials -------------------------------------------------------------------------------

    def get_trials(self) -> list[dict[str, Any]]:
        """All trials so far: those that have come to a value, the best first, then the others.

        `status` is complete, pruned or failed, or what the task is while it has not ended.
        """
        return list(door.ask("search.trials", task=self.task.id))

    def get_active_experiments(self) -> list[Task]:
        """The trials that have not ended."""
        return [_task(each) for each in self.get_trials() if each["iteration"] is None]

    def get_num_active_experiments(self) -> int:
        """How many have not ended."""
        return len(self.get_active_experiments())

    def get_top_experiments(self, top_k: int) -> list[Task]:
        """The best trials, the best first; of several objectives those that no other one beats."""
        return [_task(each) for each in self._top(top_k)]

    def get_top_experiments_details(
        self,
        top_k: int,
        all_metrics: bool = False,
        all_hyper_parameters: bool = False,
        only_completed: bool = True,
    ) -> list[dict[str, Any]]:
        """The best trials with `task_id`, `hyper_parameters` and `metrics`.

        `all_metrics` are all that the task has reported last, `all_hyper_parameters` all that it
        has; without `only_completed` those that have come to no value stand at the end.
        """
        found = []
        for each in self._top(top_k, only_completed):
            task = _task(each)
            metrics = dict(each["metrics"])
            if all_metrics:
                rows = door.ask("last", task=task.id)
                metrics = {f"{title}/{series}": float(last) for title, series, last, *_ in rows}
            words = each["hyper_parameters"]
            if all_hyper_parameters:
                words = task.get_parameters(cast=True)
            found.append({**each, "hyper_parameters": words, "metrics": metrics})
        return found

    def get_top_experiments_id_metrics_pair(
        self, top_k: int, all_metrics: bool = False, only_completed: bool = True
    ) -> list[tuple[str, dict[str, Any]]]:
        """The ids of the best trials with their metrics."""
        details = self.get_top_experiments_details(top_k, all_metrics, False, only_completed)
        return [(each["task_id"], each["metrics"]) for each in details]

    def _top(self, top_k: int, only_completed: bool = True) -> list[dict[str, Any]]:
        found = self.get_trials()
        if only_completed:
            found = [each for each in found if each["status"] == "complete"]
        return found[:top_k]


def _task(seen: Mapping[str, Any]) -> Task:
    return Task(seen["task_id"], seen["name"])
