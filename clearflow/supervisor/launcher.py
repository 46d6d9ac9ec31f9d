"""The launcher: a process with Prefect imported, which forks supervisors on request.

Importing Prefect takes longer than everything else between "enqueue" and the user's first line.
So one small process does it once and forks: it has no threads, no event loop, no sockets but the
one to its agent, and no user code. It ends with its agent; the supervisors do not.

One supervisor is forked in advance, with the process of its task, and waits for a claim.

    python -m clearflow.supervisor.launcher FD [docker] [services] [cold]

Scripts need no Prefect: a cold one imports it when the first flow comes.

FD is a SOCK_SEQPACKET socket: a packet in is the folder of a claim, a packet out its pid.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clearflow.runtimes.process import set_title
from clearflow.words.names import COLD, SERVICES

REST = 0.25  # seconds after a start before the next supervisor is forked: the task goes first


@dataclass
class Spare:
    """A supervisor that waits for its claim."""

    pid: int
    inbox: socket.socket


def main() -> int:
    agent = socket.socket(fileno=int(sys.argv[1]))
    # An agent's Ctrl-C is for the agent; supervisors that end are reaped by the kernel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    more = sys.argv[2:]
    cold = COLD in more
    _get_ready(more)
    if not cold:
        _warm_up(more)
    _keep_all()
    agent.send(b"ready")
    spare: Spare | None = None
    while True:
        if spare is None and not select.select([agent], [], [], REST)[0]:
            spare = _fork(agent)
        request = agent.recv(65536)
        if not request:
            return 0
        if cold and _is_flow(request):
            _dismiss(spare)
            spare, cold = None, False
            _warm_up(more)
            _keep_all()
        pid = _hand_over(request, spare) or _hand_over(request, _fork(agent))
        spare = None
        agent.send(str(pid).encode())


def _hand_over(request: bytes, spare: Spare | None) -> int | None:
    """Give a claim to a supervisor; None when it has died."""
    if spare is None:
        return None
    with spare.inbox:
        try:
            spare.inbox.send(request)
        except OSError:
            return None
    return spare.pid


def _fork(agent: socket.socket) -> Spare:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        agent.close()
        ours.close()
        _supervise(theirs)
    theirs.close()
    return Spare(pid, ours)


def _dismiss(spare: Spare | None) -> None:
    if spare is not None:
        spare.inbox.close()  # it ends when nobody is left to tell it anything


def _is_flow(request: bytes) -> bool:
    """Whether a claim's task wants the launcher's own Prefect."""
    from clearflow.runtimes.rundir import RunDir
    from clearflow.supervisor.entry import warm

    rundir = RunDir(Path(os.fsdecode(request)))
    job = rundir.job() if rundir.path.is_dir() else None
    return job is not None and warm(job)


def _get_ready(more: Collection[str]) -> None:
    """Import what supervisors need."""
    # All of it stays: to look for garbage among it again and again is a sixth of the work.
    gc.disable()
    from clearflow.runtimes import clearing, docker
    from clearflow.service import answers
    from clearflow.supervisor import child, entry  # noqa: F401

    answers.load()
    if clearing.DOCKER in more:
        docker.warm_up()
    set_title("cf-launcher")


def _warm_up(more: Collection[str]) -> None:
    """Import what flows need."""
    gc.disable()
    import prefect.flow_engine
    import prefect.flows
    import prefect.main  # noqa: F401

    from clearflow._prefect import lean, patient, private  # noqa: F401

    private.warm_up()
    if SERVICES in more:
        from clearflow.automation import schedulers, triggers

        for entrypoint in (schedulers.ENTRYPOINT, triggers.ENTRYPOINT):
            importlib.import_module(entrypoint.rpartition(".")[0])


def _keep_all() -> None:
    """What is imported by now stays, shared between all that are forked."""
    gc.collect()
    # Without this the collector would touch, and so copy, every page in every child.
    gc.freeze()
    gc.enable()


def _supervise(inbox: socket.socket) -> NoReturn:
    from clearflow.supervisor import leave
    from clearflow.supervisor.entry import run

    set_title("cf-spare")
    leave.at_once(run(inbox))


if __name__ == "__main__":
    sys.exit(main())
