"""The companion of a program that has made itself a task: it runs here, and no agent has it.

    python -m clearflow.supervisor.companion FD      (started by `Task.init`)

The program waits until its working copy is taken and the task stands on the server. Git takes the
copy while this process imports the rest, which is most of the time that either needs.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from clearflow.runtimes import process, wire
from clearflow.supervisor.taking import Taking, order_of


def _first(sock: socket.socket) -> dict[str, Any]:
    """What the program asks first; it asks for nothing more before it is answered."""
    said = b""
    while not said.endswith(b"\n"):
        more = sock.recv(1 << 20)
        if not more:
            raise ConnectionError("the program is gone")
        said += more
    return wire.decode(said)


def main() -> None:
    process.set_title("cf-companion")
    # All that is imported stays: to look for garbage among it takes a sixth of the time.
    gc.disable()
    # It ends with its program, and not before.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    with (
        contextlib.suppress(ConnectionError),
        tempfile.TemporaryDirectory(prefix="clearflow-", ignore_cleanup_errors=True) as place,
    ):
        first = _first(sock)
        # Git must not wait long for its turn between two imports.
        usual = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)
        taking = Taking(order_of(first["with"]), Path(place) / "snapshot")
        from clearflow.supervisor import local

        sys.setswitchinterval(usual)
        local.run(sock, Path(place), first, taking)


if __name__ == "__main__":
    main()
