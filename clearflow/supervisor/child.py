"""The process of a task that is a Prefect flow: forked from the launcher, or a new interpreter.

It prepares itself while the supervisor makes sure of the claim, waits for the word, and then
lets Prefect's own engine run the flow. Every state the engine wants to write is asked for over
the control channel, and every log record goes through it.

    python -m clearflow.supervisor.child FD      (an environment of its own)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clearflow.runtimes import process
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.runtimes.wire import Channel
from clearflow.supervisor.lines import mark
from clearflow.words.notes import Note, Verdict


class Control:
    """The child's end of the channel to its supervisor.

    A thread reads it, so that the supervisor can say something without being asked.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sending, self._asking = threading.Lock(), threading.Lock()
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.on_suspended: Callable[[dict[str, Any]], None] = lambda state: None
        # The output as it is now: a flow may send its own somewhere else.
        self._output, self._owner = os.dup(1), os.getpid()
        self._records = self._questions = 0
        threading.Thread(target=self._read, daemon=True, name="supervisor").start()

    def _read(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                if "suspended" in message:
                    self.on_suspended(message["suspended"])
                else:
                    self._answers.put(message)
        except (EOFError, OSError):
            self._answers.put(None)

    def send(self, **message: Any) -> None:
        # The supervisor's death kills this process: nothing to handle here.
        with self._sending, contextlib.suppress(OSError):
            self._channel.send(message)

    def log(self, record: dict[str, Any]) -> None:
        """Send a log record, and print a mark where it belongs between the lines."""
        if os.getpid() != self._owner:
            self.send(log=record)  # a process that the flow has forked: it cannot count
            return
        with self._sending, contextlib.suppress(OSError):
            self._records += 1
            self._channel.send({"log": record, "number": self._records})
            os.write(self._output, mark(self._records))

    def ask(self, **message: Any) -> dict[str, Any]:
        """The supervisor's answer; an empty one when it is gone."""
        with self._asking:
            self._questions += 1
            number = self._questions
            self.send(**message, number=number)
            while (answer := self._answers.get()) is not None:
                # Ctrl-C may have interrupted the wait for an earlier answer.
                if answer.get("number") == number:
                    return answer
            self._answers.put(None)
            return {}


def enter(supervisor: int, out: int) -> None:
    """Become a process of its own: own session, own output."""
    os.setsid()
    process.die_with_parent(supervisor)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    for stream in (sys.stdout, sys.stderr):
        # A pipe would make Python hold lines back until a buffer is full.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def wait_and_run(control: socket.socket) -> int:
    """Run the task that the supervisor names, as soon as it names one.

    Returns the exit code of this process: 0 when the supervisor ends without a task.
    """
    channel = Channel(control)
    try:
        begin = channel.receive()
    except (EOFError, OSError):
        return 0
    job = RunDir(Path(begin["claim"])).job()
    if job is None:
        return 0
    os.environ.clear()
    os.environ.update(begin["env"])
    process.mark(job.token)
    process.set_title("cf-task")
    os.chdir(begin["folder"])
    return run(job, Control(channel), Path(begin["folder"]))


def run(job: Job, control: Control, folder: Path) -> int:
    """Run the job's flow; returns the exit code of this process."""
    from clearflow._prefect import lean, logs, patient, private

    sys.path.insert(0, str(folder))
    with _settings(job, folder):
        patient.patient_clients(job.run_id, lambda body: _written(control, body))
        logs.send_to(control.log)
        private.fence(
            job.run_id,
            ask=lambda type, name, message: _verdict(
                control.ask(ask="state", type=type, name=name, message=message)
            ),
            told=lambda type, name: control.send(told=type, name=name),
            sign=lambda message: str(job.claim.but(Note.parse(message).text)),
            settled=lambda: control.ask(ask="settled"),
        )
        lean.spare_requests(
            job.run_id,
            update=lambda changes: control.send(update=changes),
            storage=lambda: control.ask(ask="storage"),
        )
        control.on_suspended = lambda state: private.suspend(job.run_id, state)
        _resolve_references(job, control)
        return _run_flow(job, control)


def _resolve_references(job: Job, control: Control) -> None:
    """Set environment variables that name a block or a variable of Prefect's.

    `{{ prefect.blocks.secret.wandb }}` is resolved here and nowhere before, so that the secret
    stands in no record; the supervisor is told, to mask it in the console.
    """
    asked = job.variables.get("env") or {}
    references = {k: v for k, v in asked.items() if isinstance(v, str) and "{{" in v}
    if not references:
        return
    from prefect.utilities.templating import resolve_block_document_references, resolve_variables

    async def resolve() -> dict[str, Any]:
        found = await resolve_block_document_references(dict(references))
        return dict(await resolve_variables(found))

    for key, value in asyncio.run(resolve()).items():
        os.environ[key] = str(value)
        control.send(secret=str(value))


@contextlib.contextmanager
def _settings(job: Job, folder: Path) -> Iterator[None]:
    """Prefect's settings as they are for this task.

    The launcher read them when it started; reading them again takes longer than forking, so it
    is done only where something can differ.
    """
    from prefect.context import SettingsContext, get_settings_context
    from prefect.settings import Settings

    asked = [k for k in job.variables.get("env") or {} if k.startswith("PREFECT_")]
    files = [f for f in (".env", "prefect.toml", "pyproject.toml") if (folder / f).exists()]
    if not asked and not files:
        yield
        return
    with SettingsContext(profile=get_settings_context().profile, settings=Settings()):
        yield


def _written(control: Control, body: bytes) -> Any:
    from clearflow._prefect.patient import Written

    answer = control.ask(ask="write", body=json.loads(body))
    return Written(answer["status"], answer["body"]) if answer else None


def _verdict(answer: dict[str, Any]) -> Verdict:
    return Verdict(
        message=str(answer.get("message", "")),
        go=bool(answer.get("go")),
        aborting=bool(answer.get("aborting")),
    )


def _run_flow(job: Job, control: Control) -> int:
    from uuid import UUID

    from prefect.context import SyncClientContext
    from prefect.engine import handle_engine_signals
    from prefect.flow_engine import run_flow
    from prefect.logging.loggers import flow_run_logger

    with handle_engine_signals(UUID(job.run_id)), SyncClientContext.get_or_create() as context:
        flow_run = context.client.read_flow_run(UUID(job.run_id))
        logger = flow_run_logger(flow_run=flow_run)
        # Until here nothing of the user's has run.
        if not control.ask(ask="start").get("go"):
            return 0
        try:
            flow = _load_flow(job, flow_run)
        except BaseException as error:
            logger.error("The flow could not be loaded", exc_info=True)
            control.send(failed=f"the flow could not be loaded: {_words(error)}")
            return 1
        result = run_flow(flow, flow_run=flow_run, error_logger=logger.logger)
        if flow.isgenerator and not flow.isasync:
            for _ in result:  # type: ignore[union-attr]
                pass
        elif flow.isgenerator:
            asyncio.run(_exhaust(result))
        elif asyncio.iscoroutine(result):
            asyncio.run(result)
    return 0


async def _exhaust(generator: Any) -> None:
    async for _ in generator:
        pass


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _load_flow(job: Job, flow_run: Any) -> Any:
    """The flow by its deployment: from its file where it lies, or as its pull steps bring it."""
    from prefect.flows import load_flow_from_entrypoint, load_flow_from_flow_run

    deployment = job.deployment
    entrypoint = job.variables.get("entrypoint") or deployment.get("entrypoint")
    if deployment.get("pull_steps") or deployment.get("storage_document_id"):
        return asyncio.run(load_flow_from_flow_run(flow_run, use_placeholder_flow=False))
    if not entrypoint:
        raise FileNotFoundError("the task's deployment names no entrypoint")
    path = deployment.get("path")
    if path and path != "." and not job.variables.get("working_dir"):
        os.chdir(path)
        sys.path.insert(0, path)
    elif path and path != ".":
        sys.path.insert(0, path)
        file, _, function = str(entrypoint).rpartition(":")
        if file.endswith(".py"):
            entrypoint = f"{Path(path, file)}:{function}"
    return load_flow_from_entrypoint(str(entrypoint), use_placeholder_flow=False)


def main() -> int:
    """In an environment of its own: the supervisor has set up everything but the place."""
    control = Control(Channel(socket.socket(fileno=int(sys.argv[1]))))
    told = control.ask(ask="job")
    process.die_with_parent(int(told["supervisor"]))
    process.set_title("cf-task")
    job = RunDir(Path(told["claim"])).job()
    if job is None:
        return 0
    os.chdir(told["folder"])
    return run(job, control, Path(told["folder"]))


if __name__ == "__main__":
    sys.exit(main())
