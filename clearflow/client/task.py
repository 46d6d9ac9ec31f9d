"""The task as people's programs hold it, under ClearML's names."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from clearflow.client import (
    arguments,
    checkpoints,
    door,
    frameworks,
    functions,
    live,
    outbox,
    session,
    spooling,
)
from clearflow.client.results import Results
from clearflow.client.tasks import Tasks, status_word
from clearflow.errors import ClearflowError, Usage
from clearflow.words import parameters
from clearflow.words.environ import TASK


class Task(Tasks, Results):
    """A task by its id, which stays with it wherever it goes.

    What it tells is asked of the server at that moment.
    """

    _current: ClassVar[Task | None] = None
    _closed: ClassVar[bool] = False
    _asked_name: ClassVar[str | None] = None
    _lock: ClassVar[Any] = threading.RLock()

    def __repr__(self) -> str:
        return f"Task({self.id!r}, {self._title!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # -- the task of this program -------------------------------------------------------------

    @classmethod
    def init(
        cls,
        project_name: str | None = None,
        task_name: str | None = None,
        task_type: str | None = None,
        tags: str | Sequence[str] | None = None,
        *,
        auto_connect_arg_parser: bool = True,
        auto_connect_frameworks: bool | Mapping[str, bool] = True,
        auto_connect_streams: bool = True,
        output_uri: str | os.PathLike[str] | bool | None = None,
        reuse_last_task_id: str | bool | None = True,
        continue_last_task: str | bool | int | None = False,
        **unused: Any,
    ) -> Task:
        """Make this program a task; in one that an agent runs, the task it runs as.

        Here a new task is made each time, the working copy as it stands is kept with it, and
        what it prints and how it ends is recorded. There the arguments are ignored: the task has
        its names already.

        Args:
            project_name: a name to group by; the repository's, else the folder's, without one.
            task_name: the script's file name without one.
            task_type: a word of the user's, kept as the property `type`.
            tags: to find it by.
            auto_connect_arg_parser: whether what argparse, click and typer parse are parameters.
            auto_connect_frameworks: whether figures of matplotlib that are shown or saved, scalars
                of tensorboard, and models that PyTorch, Keras, scikit-learn (joblib), LightGBM,
                XGBoost and CatBoost save, are results; a dictionary says it for each by name.
            auto_connect_streams: whether what it prints here is kept.
            output_uri: where its models and artifacts are kept: an address such as
                `s3://bucket/folder` or a folder; True or None for the store. With False, models
                that libraries save stay where they are, and only their path is noted.
            reuse_last_task_id: a task is never overwritten: False is what always happens.
            continue_last_task: False is what always happens. For either, the id of a task has no
                effect, which is said; begin with that task's models and artifacts instead.

        Further arguments that ClearML knows have no effect; which ones is said.

        Raises Unreachable without a server, Usage when there is a task of other names.
        """
        session.say_errors_plainly()
        output = spooling.output_of(output_uri)
        with cls._lock:
            if cls._current is not None:
                return cls._again(project_name, task_name)
            if isinstance(reuse_last_task_id, str):
                unused["reuse_last_task_id"] = reuse_last_task_id
            if continue_last_task:
                unused["continue_last_task"] = continue_last_task
            if unused:
                print(f"clearflow: no effect here: {', '.join(sorted(unused))}", file=sys.stderr)
            if door.inside():
                task = cls._attach()
                cls._asked_again(task, task_name)
            elif _is_child() and _parent():
                task = cls(_parent())
            else:
                named = [tags] if isinstance(tags, str) else list(tags or ())
                seen = session.begin(project_name, task_name, named, auto_connect_streams)
                task = cls._of(seen)
                if output is not None:
                    door.ask("output", task=task.id, uri=output)
                    spooling.outputs[task.id] = output
                if task_type is not None:
                    task.set_user_properties(type=str(task_type))
            cls._current = task
            if cls._required and not door.inside():
                task._need(cls._required)
                cls._required.clear()
        if auto_connect_arg_parser:
            _take_arguments()
        frameworks.capture(auto_connect_frameworks)
        return task

    @classmethod
    def _again(cls, project: str | None, name: str | None) -> Task:
        task = cls._current
        assert task is not None
        if name is not None and not door.inside() and name != task.name:
            raise Usage(
                f"this program is the task {task.name!r} already",
                hint="close() it before you begin another one",
            )
        return task

    @classmethod
    def _asked_again(cls, task: Task, name: str | None) -> None:
        """There a program is one task, from its first line to its last, whatever it closes."""
        before, cls._asked_name = cls._asked_name, name
        if cls._closed and name not in {None, before}:
            print(
                f"clearflow: this program runs as the task {task.name!r}:"
                f" what it begins as {name!r} is reported there too",
                file=sys.stderr,
            )
        cls._closed = False

    @classmethod
    def _attach(cls) -> Task:
        seen = door.ask("me")
        spooling.outputs[seen["id"]] = seen.get("output")
        return cls._of(seen)

    @classmethod
    def current_task(cls) -> Task | None:
        """The task that this program is; None when it is none."""
        with cls._lock:
            if cls._current is None and door.inside() and not cls._closed:
                cls._current = cls._attach()
            return cls._current

    @classmethod
    def running_locally(cls) -> bool:
        """Whether no agent runs this program."""
        return not door.inside()

    def is_main_task(self) -> bool:
        """Whether this program is that task."""
        return self == type(self).current_task()

    def execute_remotely(
        self,
        queue_name: str | None = None,
        clone: bool = False,
        exit_process: bool = True,
    ) -> Task | None:
        """Here: send the task to a queue, and end this program. There: do nothing.

        An agent starts the script from its beginning, with the parameters as they are connected
        now; what was printed here stays in the console. With `clone` this task goes on here, and
        a copy of it is sent. Without a queue it becomes a draft.

        Returns the task that was sent, if this program goes on; None there.

        Raises NotFound for a queue that does not exist and Refused for files that must not
        travel; then nothing was queued.
        """
        if door.inside():
            return None
        if not clone and not exit_process:
            raise ValueError("without a clone there is nothing left to run here: exit_process=True")
        if not self.is_main_task():
            return type(self).enqueue(self, queue_name=queue_name)
        sent = type(self)._of(session.send(queue_name, clone))
        where = f"waits in {queue_name}" if queue_name else "is a draft"
        print(f"clearflow: task {sent.id} {where}: {sent.url}", file=sys.stderr)
        if exit_process:
            session.leave()
        return sent

    def create_function_task(
        self,
        func: Callable[..., Any],
        func_name: str | None = None,
        task_name: str | None = None,
        **kwargs: Any,
    ) -> Task:
        """A draft with the code and environment of this task, which calls one function of it.

        `kwargs` are its arguments: the section `kwargs` of the draft's parameters. What it returns
        is its artifact `return_object`.

        Args:
            func: a function at the top level of a file that travels with this task.
            func_name: what it is called in the name of the draft; its own name without it.
            task_name: the whole name of the draft.

        Raises Usage for what is no such function, and for arguments it does not take; Refused when
        the code of this task was not kept.
        """
        function = functions.located(func)
        functions.check_arguments(func, kwargs)
        if self.is_main_task():
            session.keep()
        name = task_name or f"{self.name} {func_name or function['name']}"
        given = functions.as_parameters(functions.carried(self, f"{name}.kwargs", kwargs))
        asked = {"function": function, "name": name, "parameters": given}
        return type(self)._of(door.ask("function", task=self.id, **asked))

    def close(self) -> None:
        """End the task of this program as completed; the program goes on, and may begin another.

        There it ends with its program: what it has reported is sent, and `init` goes on with it.
        """
        # Threads of these two ask which task this program is.
        live.settle(self.id)
        checkpoints.settle()
        with type(self)._lock:
            if not self.is_main_task():
                return
            if door.inside():
                outbox.flush()
                type(self)._closed = True
            else:
                session.end("completed", "")
            type(self)._current = None

    # -- its life -----------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """draft, scheduled, queued, starting, running, retrying, paused, aborting, completed,
        failed, crashed or aborted.
        """
        return str(self._see()["status"])

    def get_status(self) -> str:
        return self.status

    @property
    def url(self) -> str:
        """Where the Prefect UI shows it."""
        return str(self._see()["url"])

    def wait(self, timeout: float | None = None) -> str:
        """Wait until it has ended; its status then. Raises TimeoutError."""
        return str(door.ask("wait", task=self.id, timeout=timeout)["status"])

    def wait_for_status(
        self,
        status: str | Sequence[str] = ("completed", "aborted"),
        raise_on_status: str | Sequence[str] | None = ("failed", "crashed"),
        timeout: float | None = None,
    ) -> str:
        """Wait until it has one of these statuses, or has ended; the status then.

        Raises RuntimeError for one of `raise_on_status`, TimeoutError after `timeout` seconds.
        """
        wanted = {status_word(s) for s in ([status] if isinstance(status, str) else status)}
        bad = [raise_on_status] if isinstance(raise_on_status, str) else raise_on_status or ()
        now = str(door.ask("wait", task=self.id, timeout=timeout, until=sorted(wanted))["status"])
        if now in {status_word(s) for s in bad}:
            raise RuntimeError(f"task {self.id} ({self._title}) is {now}: {self._see()['reason']}")
        return now

    def abort(self) -> None:
        """Abort it: at once while it waits, else by asking its agent. Raises Refused after its end.

        Use `wait` to see it ended.
        """
        door.ask("abort", task=self.id)

    def mark_completed(self, status_message: str = "") -> None:
        """Declare it completed; the task of this program is that once the program ends."""
        self._finish("completed", status_message)

    def mark_failed(self, status_message: str = "", status_reason: str = "") -> None:
        """Declare it failed; the task of this program is that once the program ends."""
        self._finish("failed", status_message or status_reason)

    def mark_stopped(self, status_message: str = "") -> None:
        """Declare it aborted; the task of this program is that once the program ends."""
        self._finish("aborted", status_message)

    def _finish(self, status: str, reason: str) -> None:
        door.ask("finish", task=self.id, status=status, reason=reason)

    def delete(self, force: bool = False) -> None:
        """Delete it. Raises Refused while it waits or runs, unless forced."""
        door.ask("delete", task=self.id, force=force)

    def logs(self, last: int | None = None) -> list[str]:
        """The lines of its console so far; only the `last` ones when asked for."""
        return list(door.ask("logs", task=self.id, last=last))

    def get_reported_console_output(self, number_of_reports: int = 1) -> list[str]:
        """The last lines of its console."""
        return self.logs(number_of_reports)

    def register_abort_callback(
        self,
        callback_function: Callable[[], Any] | None,
        callback_execution_timeout: float = 30.0,
    ) -> None:
        """Have a function called when the task is aborted, before the program is interrupted.

        It has `callback_execution_timeout` seconds (at most 300) before the program is ended.
        None takes it back. To be called in the main thread.
        """
        if door.inside():
            door.ask("grace", seconds=min(float(callback_execution_timeout), 300.0))
        session.on_interrupt(callback_function)


def _is_child() -> bool:
    """Whether a program has started this process by `multiprocessing`."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def _parent() -> str:
    """In a process that this program has started: the id of the program's task."""
    return os.environ.get(TASK, "")


_taking = False


def _take_arguments() -> None:
    """Command lines are parameters from now on, and those that were parsed before."""
    global _taking
    if door.inside() or _is_child():
        return  # taken from the first import on
    _taking = True
    if before := arguments.parsed():
        _exchange(parameters.ARGS, before)


def _exchange(section: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if _is_child():
        return None
    if not door.inside():
        if _taking and session.running():
            door.ask("connect", section=section, values=values, arguments=sys.argv[1:])
        return None
    try:
        if not door.ask("me")["script"]:
            return None
        found = door.ask("connect", section=section, values=values, arguments=sys.argv[1:])
    except (ClearflowError, OSError) as error:
        raise SystemExit(f"clearflow: the parameters cannot be asked for: {error}") from None
    return dict(found)


arguments.capture(_exchange)
