"""Runs a pipeline: starts its steps, hears how they end, and decides what comes next.

    start ─ make a task ─ hear of it ─┬─ ended ─ graph: who starts, who is skipped ─ start …
                                      └─ failed ─ once more, a little later

What is decided stands in words/graph.py. Nothing is kept here that would be missed: a controller
that was killed begins again, and finds the tasks that it has made.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from clearflow.client import door, functions, session
from clearflow.client.functions import located
from clearflow.client.pipelines.mirror import Mirror
from clearflow.client.pipelines.steps import Step
from clearflow.client.task import Task
from clearflow.errors import ClearflowError, Usage
from clearflow.words import graph, references
from clearflow.words.graph import Graph, Moves
from clearflow.words.references import Reference

_LONG = 300.0  # seconds; of one question
_MIRRORED = 5.0  # seconds between two looks at metrics that are mirrored
_BAD = ("failed", "crashed", "deleted")


class Engine:
    """One pipeline while it runs. `owner` is what callbacks get, `task` the controller's."""

    def __init__(
        self,
        owner: Any,
        task: Task,
        steps: Graph,
        parameters: Mapping[str, Any],
        queue: str | None,
    ) -> None:
        self.owner, self.task, self.graph = owner, task, steps
        self.parameters, self.queue = parameters, queue
        self.changed = threading.Condition(threading.RLock())
        self.error: BaseException | None = None
        self.until: float | None = None
        self.why = ""
        self._known: dict[str, dict[str, Any]] = {}
        self._tasks: dict[str, Step] = {}
        self._cursor = 0
        self._todo: deque[str] = deque()
        self._later: dict[str, float] = {}
        self._limits: dict[str, float] = {}
        self._mirror = Mirror(task)
        self._stopping = False

    # -- the loop -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Find the steps that an earlier attempt has started. Raises NotFound for a queue."""
        session.keep()
        steps = [step for step in self._steps() if step.executed is None]
        queues = sorted({q for q in (self.queue, *(s.queue for s in steps)) if q})
        found = door.ask("pipeline.begin", task=self.task.id, queues=queues)
        for seen in sorted(found["steps"], key=lambda each: int(each["try"])):
            self._known[seen["step"]] = seen

    def run(self) -> None:
        """Until all steps have ended."""
        with self.changed:
            self.go_on()
        while not self.graph.over:
            self.turn()

    def turn(self) -> None:
        """Wait until something happens, and do what follows."""
        with self.changed:
            timeout = self._next() - time.monotonic()
        if timeout > 0:
            asked = {"task": self.task.id, "after": self._cursor, "timeout": timeout}
            news = door.ask("pipeline.await", **asked)
            with self.changed:
                if news["next"] < self._cursor:
                    self._say("the steps are looked at anew")
                self._cursor = news["next"]
                for seen in news["changed"]:
                    self._hear(seen)
        with self.changed:
            self._in_time()
            self.go_on()
            self.changed.notify_all()

    def go_on(self) -> None:
        """Start what can start."""
        self._follow(self.graph.begin())
        while self._todo:
            self._start(self._step(self._todo.popleft()))

    def _next(self) -> float:
        """When something has to be done, even if nothing happens."""
        now = time.monotonic()
        times = [now + _LONG, *self._later.values(), *self._limits.values()]
        if self.until is not None and not self._stopping:
            times.append(self.until)
        if self._mirror.active:
            times.append(now + _MIRRORED)
        return min(times)

    def _in_time(self) -> None:
        now = time.monotonic()
        for name in [name for name, at in self._later.items() if at <= now]:
            del self._later[name]
            self._todo.append(name)
        for name in [name for name, at in self._limits.items() if at <= now]:
            del self._limits[name]
            step = self._step(name)
            if not step.over:
                step.late = True
                self._say(f"{name} has taken longer than {step.time_limit:g} s: aborting it")
                self._abort(step)
        if self.until is not None and self.until <= now and not self._stopping:
            self.stop("it has taken longer than it may")
        self._mirror.look()

    # -- one step -----------------------------------------------------------------------------

    def _start(self, step: Step) -> None:
        if step.over:
            return
        known = self._known.pop(step.name, None)
        if known is not None and known["earlier"] and known["status"] != "completed":
            step.earlier, known = int(known["try"]), None
        if known is not None:
            step.tries = int(known["try"]) - 1
            self._say(f"{step.name} is there already: task {known['id']} is {known['status']}")
            self._has(step, known)
            self._hear(known)
            return
        try:
            parameters = references.filled(step.parameters, self._look)
            if step.pre_execute is not None and not step.tries:
                parameters = dict(parameters)
                if step.pre_execute(self.owner, step, parameters) is False:
                    self._end(step, graph.SKIPPED, "its callback says so")
                    return
            made = door.ask("pipeline.step", **self._order(step, parameters))
        except ClearflowError as error:
            self._end(step, graph.FAILED, error.message)
            return
        except Exception as error:  # what a callback raises is up to its author
            self._end(step, graph.FAILED, f"{type(error).__name__}: {error}")
            return
        self._has(step, made)
        if made["cached"]:
            self._end(step, graph.CACHED, f"done before by task {made['id']}")
        else:
            self._say(f"{step.name} waits in {step.queue or self.queue}: task {made['id']}")

    def _order(self, step: Step, parameters: Mapping[str, Any]) -> dict[str, Any]:
        queue = step.queue or self.queue
        if queue is None:
            raise Usage(f"the step {step.name!r} has no queue", hint="set_default_execution_queue")
        function = None
        if step.function is not None:
            function = {**located(step.function), "returns": list(step.returns)}
        parents = [self._step(p).node for p in step.parents]
        return {
            "task": self.task.id,
            "step": step.name,
            "attempt": step.earlier + step.tries + 1,
            "queue": queue,
            "base": step.base_task_id,
            "function": function,
            "parameters": self._storable(step, parameters),
            "configurations": references.filled(step.configurations, self._look),
            "variables": references.filled(step.variables, self._look),
            "tags": list(step.tags),
            "parents": [node for node in parents if node],
            "project": step.project,
            "cache": step.cache,
            "clone": step.clone,
            "origin": references.filled(step.origin, self._look),
        }

    def _storable(self, step: Step, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that JSON can carry; other objects travel as artifacts of the pipeline."""
        return {
            section: functions.carried(self.task, step.name, values)
            for section, values in parameters.items()
        }

    def _has(self, step: Step, seen: Mapping[str, Any]) -> None:
        """The step has a task."""
        before = step.status
        self.graph.started(step.name)
        step.executed, step.node, step.late = seen["id"], seen["node"], False
        self._tasks[seen["id"]] = step
        self._mirror.begin(step)
        self._tell(step, before)

    def _hear(self, seen: Mapping[str, Any]) -> None:
        """Something has happened to a task."""
        step, status = self._tasks.get(seen["id"]), seen["status"]
        if step is None or step.over or step.executed != seen["id"] or step.name in self._later:
            return
        if status == "running" and step.time_limit is not None:
            left = step.time_limit - float(seen["ran"])
            self._limits.setdefault(step.name, time.monotonic() + max(left, 0.0))
        elif status == "completed":
            self._end(step, graph.COMPLETED, "")
        elif status in _BAD:
            self._end(step, graph.FAILED, seen["reason"] or status)
        elif status == "aborted" and step.late:
            why = f"it took longer than {step.time_limit:g} s"
            door.ask("finish", task=seen["id"], status="failed", reason=why)
            self._end(step, graph.FAILED, why)
        elif status == "aborted":
            self._end(step, graph.ABORTED, seen["reason"])

    def _end(self, step: Step, how: str, reason: str) -> None:
        """A try has ended; the step too, unless it is tried again."""
        self._limits.pop(step.name, None)
        step.reason = reason
        before = step.status
        if how == graph.FAILED and not self._stopping and step.executed is not None:
            pause = self._pause(step)
            if pause is not None:
                self._say(f"{step.name} failed: {reason}; once more in {pause:g} s")
                self._later[step.name] = time.monotonic() + pause
                return
        self._say(f"{step.name} {how}" + (f": {reason}" if reason else ""))
        moves = self.graph.ended(step.name, how)
        try:
            if how in {graph.COMPLETED, graph.CACHED}:
                self._mirror.keep(step)
            self._mirror.end(step)
            if how != graph.SKIPPED and step.post_execute is not None:
                step.post_execute(self.owner, step)
        except Exception as error:  # what a callback raises is up to its author
            self.error = self.error or error
            self._say(f"after {step.name}: {type(error).__name__}: {error}")
            self.stop(f"after the step {step.name}: {type(error).__name__}: {error}")
        self._tell(step, before)
        self._follow(moves)

    def _pause(self, step: Step) -> float | None:
        if step.retry is not None and not step.retry(self.owner, step, step.tries):
            return None
        return step.pause()

    def _follow(self, moves: Moves) -> None:
        for name in moves.skipped:
            self._say(f"{name} skipped: a step before it did not complete")
            self._tell(self._step(name), graph.WAITING)
        if not self._stopping:
            self._todo.extend(moves.start)
        if moves.stop:
            self.stop(f"{self.graph.failed[0]} failed")

    def _tell(self, step: Step, before: str) -> None:
        if step.status_change is not None and step.status != before:
            try:
                step.status_change(self.owner, step, before)
            except Exception as error:  # what a callback raises is up to its author
                self._say(f"{step.name}: its callback: {type(error).__name__}: {error}")

    # -- all of them --------------------------------------------------------------------------

    def stop(self, why: str) -> None:
        """Start nothing more, and abort what runs."""
        if self._stopping:
            return
        self._stopping, self.why = True, why
        self._say(f"stopping: {why}")
        self._todo.clear()
        for name in self._later:
            self.graph.ended(name, graph.FAILED)
        self._later.clear()
        for name in self.graph.stop():
            self._tell(self._step(name), graph.WAITING)
        for step in self._steps():
            if step.status == graph.RUNNING:
                self._abort(step)

    def _abort(self, step: Step) -> None:
        try:
            door.ask("abort", task=step.executed)
        except ClearflowError as error:
            self._say(f"{step.name}: {error.message}")  # it has just ended

    def verdict(self) -> str | None:
        """Why the pipeline has failed; None when it has not."""
        if self.why:
            return self.why
        if failed := self.graph.failed:
            step = self._step(failed[0])
            more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
            return f"the step {step.name} {step.status}: {step.reason}{more}"
        return None

    def _look(self, reference: Reference) -> Any:
        """What a reference stands for, once its step has ended. Raises Usage."""
        if reference.kind == references.PIPELINE:
            return self.parameters[reference.name]
        step = self._step(reference.step)
        if step.executed is None:
            raise Usage(f"the step {step.name!r} has no task")
        task = Task(step.executed, step.name)
        if reference.kind == "id":
            return step.executed
        if reference.kind == "status":
            return step.status
        if reference.kind == "parameters":
            known = task.get_parameters(cast=True)
            name = reference.name if "/" in reference.name else f"General/{reference.name}"
            if name not in known:
                raise Usage(f"the step {step.name!r} has no parameter {name!r}")
            return known[name]
        if reference.kind == "models":
            return model_of(task, reference)
        if reference.about == "url":
            return references.address(step.executed, reference.name)
        if not reference.about:
            return references.artifact(step.executed, reference.name)
        return getattr(task.artifacts[reference.name], reference.about)

    def _step(self, name: str) -> Step:
        found = self.graph.nodes[name]
        assert isinstance(found, Step)
        return found

    def _steps(self) -> list[Step]:
        return [self._step(name) for name in self.graph.nodes]

    def _say(self, text: str) -> None:
        print(f"pipeline: {text}", flush=True)


def model_of(task: Task, reference: Reference) -> Any:
    """A model of a step by its number or name: its id, or what else is asked of it."""
    which, _, number = reference.name.partition(".")
    several = task.models[which]
    try:
        model = several[int(number)] if number.lstrip("-").isdigit() else several[number]
    except (IndexError, KeyError):
        raise Usage(f"the task {task.id} has no model {reference.name}") from None
    return getattr(model, reference.about or "id")
