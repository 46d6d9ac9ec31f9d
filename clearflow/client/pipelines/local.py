"""An agent of this machine that serves the tasks of one pipeline or search, and ends with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from clearflow.client import door
from clearflow.errors import ClearflowError

_SLOTS = 4


@contextlib.contextmanager
def agent(id: str, what: str = "pipeline", slots: int = _SLOTS) -> Iterator[str]:
    """The name of a queue that an agent here serves meanwhile."""
    queue = f"{what} {id[:8]}"
    # Steps and trials can wait in it at once, while the agent starts.
    door.ask("queue.make", name=queue)
    words = ["agent", "start", "--queue", queue, "--slots", str(slots)]
    name = f"{what}-{id[:8]}-{os.getpid()}"
    started = subprocess.Popen(
        [sys.executable, "-m", "clearflow", *words, "--name", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield queue
    finally:
        started.terminate()
        try:
            started.wait(60)
        finally:
            started.kill()
        # One that still has tasks stays, for whoever looks after them.
        with contextlib.suppress(ClearflowError):
            door.ask("queue.delete", name=queue)
