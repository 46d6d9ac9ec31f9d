"""How a supervisor comes to be: forked in advance, with its task's process, it gets a claim."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from clearflow.runtimes import clearing, process
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.supervisor import spawn
from clearflow.supervisor.main import Supervisor
from clearflow.words import scripts


def run(inbox: socket.socket) -> int:
    """The supervisor of the claim whose folder comes in a packet; in the task's process, the task.

    Everything that does not depend on the claim is done before it comes. Returns the exit code of
    the process it returns in: 0, too, when the launcher ends without a claim.
    """
    spawn.waitable()
    os.setsid()
    process.adopt_orphans()
    task = None
    try:
        # Before there is an event loop: the child must not inherit one.
        child = spawn.fork()
    except spawn.InChild as inside:
        task = inside.run
    if task is not None:
        # Here no exception is being handled, which would show in the task's tracebacks.
        inbox.close()
        return task()
    with inbox:
        # One whose child has died is of no use; the launcher notices, and forks another.
        folder = inbox.recv(65536) if child.stays_until(inbox) else b""
    if folder:
        process.set_title("cf-supervisor")
        _supervise(RunDir(Path(os.fsdecode(folder))), child)
    return 0


def _supervise(rundir: RunDir, waiting: spawn.Child) -> None:
    # A second supervisor of one claim, or one that comes too late, has nothing to do.
    if not rundir.path.is_dir() or not rundir.lock():
        return
    job = rundir.job()
    if job is None:
        return
    place = working_folder(job, rundir)
    env = spawn.environment(job, place)
    child = waiting if warm(job) and job.runtime == clearing.PROCESS else None
    if child is not None:
        spawn.begin(child, rundir, env, place)
    else:
        spawn.dismiss(waiting)
    asyncio.run(Supervisor(rundir, job, env, place, child).supervise())


def warm(job: Job) -> bool:
    """Whether the task runs in the agent's own environment, so that a fork can start it."""
    return not (
        scripts.KEY in job.variables
        or job.variables.get("requirements")
        or job.variables.get("python_version")
        or job.variables.get("setup_script")
    )


def working_folder(job: Job, rundir: RunDir) -> Path:
    """Where the task runs: where it asks to, where its code is, or an empty folder of its own."""
    asked = job.variables.get("working_dir") or job.deployment.get("path")
    if asked and asked != "." and Path(asked).expanduser().is_dir():
        return Path(asked).expanduser()
    own = rundir.path / "work"
    own.mkdir(exist_ok=True)
    return own
