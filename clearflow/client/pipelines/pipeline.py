"""Pipelines under ClearML's names: tasks that start in the order in which one needs another."""

from __future__ import annotations

import time
from typing import Any

from clearflow.client import door
from clearflow.client.logger import Logger
from clearflow.client.pipelines import local
from clearflow.client.pipelines.describing import Described
from clearflow.client.pipelines.engine import Engine
from clearflow.client.pipelines.steps import Step
from clearflow.client.task import Task
from clearflow.words import references
from clearflow.words.graph import RUNNING
from clearflow.words.parameters import ARGS


class Pipeline(Described):
    """Tasks in an order: each starts when those before it have completed.

    The program that describes it is its controller, and a task itself: clone it, change its
    parameters, queue it. A controller that is killed begins again where it was.
    """

    _engine: Engine | None = None
    _began: float | None = None
    _ended: float | None = None
    _verdict: str | None = None

    # -- running it ---------------------------------------------------------------------------

    def start(self, queue: str | None = "services", **unused: Any) -> bool:
        """Run it: here its controller goes to a queue and this program ends, there it runs.

        Raises Usage for steps that wait for each other, for a parent, a step or a parameter that
        there is not, and NotFound for a base task or a queue that does not exist; then nothing
        has been started.
        """
        self._check()
        if not door.inside():
            self._connect()
            self._find_bases()
            self._task.execute_remotely(queue)
        return self._run()

    def start_locally(self, run_pipeline_steps_locally: bool = False) -> bool:
        """Run its controller here; its steps too, by an agent that lives as long as they do."""
        self._check()
        if not run_pipeline_steps_locally or door.inside():
            return self._run()
        with local.agent(self._task.id) as queue:
            self._queue = queue
            for step in self._steps():
                step.queue = queue
            return self._run()

    def run_locally(self) -> bool:
        """Run it with all of its steps here."""
        return self.start_locally(run_pipeline_steps_locally=True)

    def _check(self) -> None:
        self._graph.check()
        names = list(self._graph.nodes)
        for step in self._steps():
            references.check(step.name, step.said, names, list(self._parameters))

    def _connect(self) -> None:
        if self._parameters:
            self._parameters = dict(self._task.connect(self._parameters, name=ARGS))

    def _find_bases(self) -> None:
        """The tasks that steps are made from; what is asked for twice is looked for once."""
        known: dict[str, str] = {}
        for step in self._steps():
            if step.function is not None:
                continue
            asked = {"task": step.base_task_id} if step.base_task_id else dict(step.selector or {})
            key = repr(sorted(asked.items()))
            if key not in known:
                known[key] = door.ask("pipeline.base", **asked)["id"]
            step.base_task_id = known[key]

    def _run(self) -> bool:
        self._connect()
        self._find_bases()
        engine = Engine(self, self._task, self._graph, self._parameters, self._queue)
        self._engine = engine
        self._began = time.monotonic()
        if self._limit is not None:
            engine.until = self._began + self._limit
        engine.begin()
        engine.run()
        return self._finish(engine)

    def _finish(self, engine: Engine) -> bool:
        self._ended = time.monotonic()
        self._verdict = engine.verdict()
        if self._verdict is None:
            print("pipeline: completed", flush=True)
        else:
            print(f"pipeline: failed: {self._verdict}", flush=True)
            self._task.mark_failed(status_message=self._verdict)
        return self._verdict is None

    # -- what has become of it ----------------------------------------------------------------

    @property
    def task(self) -> Task:
        """The task of the controller."""
        return self._task

    @property
    def id(self) -> str:
        return self._task.id

    def get_logger(self) -> Logger:
        return self._task.get_logger()

    def upload_artifact(self, name: str, artifact_object: Any, **more: Any) -> bool:
        """Keep an object with the pipeline."""
        return self._task.upload_artifact(name, artifact_object, **more)

    def stop(self, timeout: float | None = None, mark_failed: bool = False) -> None:
        """Start nothing more, and abort the steps that run; to be called by callbacks."""
        if self._engine is not None:
            self._engine.stop("somebody has stopped it")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; it runs in `start`, so that it has already."""
        return self._ended is not None

    def elapsed(self) -> float:
        """Minutes since it began, or that it took."""
        if self._began is None:
            return -1.0
        return ((self._ended or time.monotonic()) - self._began) / 60

    def is_running(self) -> bool:
        return self._began is not None and self._ended is None

    def is_successful(self, fail_on_step_fail: bool = True, fail_condition: str = "all") -> bool:
        """Whether it has ended well: with steps that completed, or were done before."""
        return self._ended is not None and self._verdict is None

    def get_pipeline_dag(self) -> dict[str, Step]:
        """All steps by name."""
        return {step.name: step for step in self._steps()}

    def get_running_nodes(self) -> list[Step]:
        """The steps that have been started and have not ended."""
        return [step for step in self._steps() if step.status == RUNNING]

    def get_processed_nodes(self) -> list[Step]:
        """The steps that have been started and have ended."""
        return [step for step in self._steps() if step.over and step.executed is not None]


PipelineController = Pipeline
