"""The launcher: a process with Prefect imported, which forks supervisors on request.

Importing Prefect takes longer than everything else between "enqueue" and the user's first line.
So one small process does it once and forks: it has no threads, no event loop, no sockets but the
one to its agent, and no user code. It ends with its agent; the supervisors do not.

    python -m clearflow.supervisor.launcher FD

FD is a SOCK_SEQPACKET socket: a packet in is the folder of a claim, a packet out its pid.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> int:
    agent = socket.socket(fileno=int(sys.argv[1]))
    # An agent's Ctrl-C is for the agent; supervisors that end are reaped by the kernel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _warm_up()
    agent.send(b"ready")
    while True:
        request = agent.recv(65536)
        if not request:
            return 0
        pid = os.fork()
        if pid == 0:
            agent.close()
            return _supervise(Path(os.fsdecode(request)))
        agent.send(str(pid).encode())


def _warm_up() -> None:
    """Import what supervisors and flows need, and keep it shared between all of them."""
    import prefect.flow_engine
    import prefect.flows
    import prefect.main  # noqa: F401

    from clearflow._prefect import lean, private  # noqa: F401
    from clearflow.runtimes.process import set_title
    from clearflow.supervisor import child, main  # noqa: F401

    private.warm_up()
    set_title("cf-launcher")
    gc.collect()
    # Without this the collector would touch, and so copy, every page in every child.
    gc.freeze()


def _supervise(folder: Path) -> int:
    from clearflow.supervisor import leave
    from clearflow.supervisor.main import run

    return leave.at_once(run(folder))


if __name__ == "__main__":
    sys.exit(main())
