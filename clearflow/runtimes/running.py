"""What a supervisor can do with the process of its task, whatever runtime it runs in."""

from __future__ import annotations

import socket
from typing import Protocol

from clearflow.words.lifecycle import Exit


class TaskProcess(Protocol):
    """The process of a task.

    `control` is the supervisor's end of the channel to it, `output` the reading end of everything
    it prints: both end when nobody is left on the other side.
    """

    @property
    def control(self) -> socket.socket: ...

    @property
    def output(self) -> int: ...

    async def wait(self) -> Exit:
        """How it ended, once it has."""

    async def send(self, number: int) -> None:
        """A signal: SIGINT as Ctrl-C in a terminal sends it, SIGTERM to the whole tree."""

    async def kill(self) -> None:
        """End the whole tree at once. Does nothing when it has ended."""
