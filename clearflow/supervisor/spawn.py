"""Start the process of a task: forked from the launcher, or a new interpreter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clearflow.runtimes import process, wire
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.supervisor import child, leave
from clearflow.words.lifecycle import Exit


@dataclass
class Child:
    """A started process: its pid, the supervisor's ends of its control channel and output.

    `token` is that of its claim, once it has one.
    """

    pid: int
    control: socket.socket
    output: int
    token: str = ""

    def stays_until(self, news: socket.socket) -> bool:
        """Wait for something to read; False when the process ends before that."""
        handle = os.pidfd_open(self.pid)
        try:
            ready, _, _ = select.select([news.fileno(), handle], [], [])
            return news.fileno() in ready
        finally:
            os.close(handle)

    async def wait(self) -> Exit:
        """How the process ended."""
        handle = os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        _, status = os.waitpid(self.pid, 0)  # noqa: ASYNC222 - it has ended
        if os.WIFSIGNALED(status):
            return Exit(signal=signal.Signals(os.WTERMSIG(status)).name)
        return Exit(code=os.waitstatus_to_exitcode(status))

    async def send(self, number: int) -> None:
        """A signal: SIGINT as Ctrl-C in a terminal sends it, SIGTERM to the whole tree."""
        process.send_group(self.pid, number)
        if number == signal.SIGTERM:
            process.send(process.of_claim(self.token), number)

    async def kill(self) -> None:
        """End the whole tree at once."""
        process.send_group(self.pid, signal.SIGKILL)
        process.kill_claim(self.token)


class InChild(Exception):
    """Raised in the forked process, to leave the supervisor's stack; `run` is its program."""

    def __init__(self, run: Callable[[], int]) -> None:
        self.run = run


def fork() -> Child:
    """Fork the process of a task from this one, which has Prefect imported and no threads.

    It waits until `begin` says what it has to run. Raises InChild in the child.
    """
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.close(read)
        child.enter(supervisor, write)
        os.close(write)
        inherited = frozenset(sys.modules)
        raise InChild(lambda: leave.after(lambda: child.wait_and_run(theirs), inherited))
    theirs.close()
    os.close(write)
    return Child(pid, ours, read)


def begin(waiting: Child, rundir: RunDir, env: Mapping[str, str], folder: Path) -> None:
    """Tell a forked process what it has to run. Raises OSError when it has died."""
    waiting.token = rundir.path.name
    told = {"claim": str(rundir.path), "env": dict(env), "folder": str(folder)}
    waiting.control.sendall(wire.encode(told))


def dismiss(waiting: Child) -> None:
    """A forked process that is not needed: it ends when nobody is left to tell it anything."""
    waiting.control.close()
    os.close(waiting.output)


def execute(job: Job, python: Path, env: Mapping[str, str]) -> Child:
    """Start the task's process as a new interpreter of another environment.

    It asks for its working directory over the control channel.
    """
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    try:
        words = [str(python), "-m", child.__name__, str(theirs.fileno())]
        pid, output = _start(job, words, env)
    finally:
        theirs.close()
    return Child(pid, ours, output, job.token)


def program(job: Job, words: Sequence[str], env: Mapping[str, str], folder: Path) -> Child:
    """Start the task's process as a program of its own, in its folder.

    It knows nothing of its supervisor: the control channel ends here.
    """
    ours, theirs = socket.socketpair()
    theirs.close()
    # A new interpreter has no other way into a folder that needs neither threads nor a fork here.
    enter = 'cd -- "$0" && exec "$@"'
    pid, output = _start(job, ["/bin/sh", "-c", enter, str(folder), *words], env)
    return Child(pid, ours, output, job.token)


def _start(job: Job, words: Sequence[str], env: Mapping[str, str]) -> tuple[int, int]:
    """Its pid, and the reading end of its output."""
    read, write = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        pid = os.posix_spawn(
            words[0],
            list(words),
            {**env, process.CLAIM: job.token, "PYTHONUNBUFFERED": "1"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, write, 1),
                (os.POSIX_SPAWN_DUP2, write, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE],
        )
    finally:
        os.close(write)
        os.close(null)
    return pid, read


def environment(job: Job, folder: Path) -> dict[str, str]:
    """The environment of a task's process: the agent's, the job's, and what tells it who it is."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("CLEARFLOW_AGENT_")}
    asked = job.variables.get("env") or {}
    for key, value in {**job.env, **asked}.items():
        if value is None:
            env.pop(key, None)
        else:
            env[key] = str(value)
    env["CUDA_VISIBLE_DEVICES"] = ",".join(job.gpus)
    env["PREFECT__FLOW_RUN_ID"] = job.run_id
    env["CLEARFLOW_TASK_ID"] = job.task_id
    env["PWD"] = str(folder)
    return env


def waitable() -> None:
    """Let this process wait for its children: the launcher has the kernel reap its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def any_left() -> bool:
    """Whether this process has children; those that have ended are seen off."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False
