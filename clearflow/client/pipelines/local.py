"""An agent of this machine that serves the steps of one pipeline, and ends with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_SLOTS = 4


@contextlib.contextmanager
def agent(pipeline: str) -> Iterator[str]:
    """The name of a queue that an agent here serves meanwhile."""
    queue = f"pipeline {pipeline[:8]}"
    words = ["agent", "start", "--queue", queue, "--create-queue", "--slots", str(_SLOTS)]
    name = f"pipeline-{pipeline[:8]}-{os.getpid()}"
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
        _delete(queue)


def _delete(queue: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "clearflow", "queue", "delete", queue],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
