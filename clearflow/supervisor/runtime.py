"""The seam between a supervisor and where its task runs: on this machine, or in a container."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clearflow._prefect.http import Api
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.runtimes.running import TaskProcess
from clearflow.supervisor.console import Console


@dataclass
class Task:
    """What a runtime needs to know of the task it runs.

    `env` and `place` are the environment variables and the folder that a process of this machine
    would have. `attach` connects a process with the console; it is called once.
    """

    api: Api
    rundir: RunDir
    job: Job
    env: dict[str, str]
    place: Path
    console: Console
    attach: Callable[[TaskProcess], None]


class Runtime(Protocol):
    """Where one task runs. `close` is called at the end, whatever happened before."""

    async def prepare(self) -> None:
        """Have everything there: code, environment, what the set-up script does.

        It may be cancelled. Raises ClearflowError with the reason in one line.
        """

    async def start(self, arguments: Sequence[str]) -> TaskProcess:
        """Start the task's process, a script with these arguments; it is attached."""

    async def freeze(self, frozen: bool) -> None:
        """Stop all of the task where it is, or let it go on."""

    async def close(self) -> None:
        """Leave nothing of it."""
