"""Start the same command again in the background, and wait until it is really up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from clearflow.cli.output import say
from clearflow.errors import ClearflowError
from clearflow.settings import settings

PATIENCE = 60.0
_UP = " serves "


def detach() -> None:
    """Run this command line without `--detach` as a process of its own session.

    Returns when its agent serves its queues. Raises ClearflowError with its last words when it
    ends before.
    """
    words = [w for w in sys.argv[1:] if w not in {"--detach", "-d"}]
    folder = settings().home_path / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"agent-{os.getpid()}.log"
    with path.open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "clearflow", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # A shell that starts a command with `&` has it ignore Ctrl-C, and so would the agent.
            preexec_fn=_default_signals,
        )
    _until_up(started, path)
    say(f"started in the background: process {started.pid}, log {path}")


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _until_up(started: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        text = path.read_text(errors="replace")
        if _UP in text:
            return
        if started.poll() is not None:
            lines = [line for line in text.splitlines() if line.strip()]
            first = next((line for line in lines if line.startswith("error: ")), "")
            said = first.removeprefix("error: ") or (lines[-1] if lines else "it said nothing")
            raise ClearflowError(f"the agent did not start: {said}", hint=f"its log is {path}")
        time.sleep(0.05)
    started.terminate()
    raise ClearflowError(f"the agent was not up after {PATIENCE:.0f} s", hint=f"its log is {path}")
