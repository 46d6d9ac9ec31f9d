"""The supervisor's end of the control channel: what the task's process asks, and is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from clearflow.runtimes import wire
from clearflow.runtimes.rundir import Job
from clearflow.runtimes.running import TaskProcess
from clearflow.supervisor.console import Console
from clearflow.supervisor.errands import Errands
from clearflow.supervisor.guard import End, Guard
from clearflow.words import lifecycle
from clearflow.words.models import RUNNING

PATIENCE = 1.0  # seconds that an outcome waits for the console before it


class ChildLink:
    """Answers the questions of one task's process.

    `told` is the last state the flow engine has written, `failed` why there was nothing to run.
    `confirmed` says in a word whether the claim stood when it was made. `write` sends a state of
    the flow's engine as long as the claim stands; it gives the server's answer, None when it does
    not stand. `answers` are the fixed answers.
    """

    def __init__(
        self,
        job: Job,
        console: Console,
        guard: Guard,
        confirmed: Awaitable[str],
        write: Callable[[dict[str, Any]], Awaitable[tuple[int, Any] | None]],
        errands: Errands,
        answers: dict[str, Path],
    ) -> None:
        self._job, self._console, self._guard = job, console, guard
        self._errands = errands
        self._confirmed, self._write = confirmed, write
        self._answers = answers
        self.told: tuple[str, str] | None = None
        self.failed: str | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def attach(self, child: TaskProcess) -> None:
        self._tasks = [
            asyncio.create_task(self._converse(child)),
            asyncio.create_task(self._console.read(child.output)),
        ]

    async def drained(self) -> None:
        """Until everything the process has said and printed is here; its tree has ended."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=5)
            for task in late:
                task.cancel()

    async def _converse(self, child: TaskProcess) -> None:
        reader, writer = await asyncio.open_connection(sock=child.control, limit=1 << 24)
        self._guard.on_suspended = lambda state: writer.write(
            wire.encode(
                {
                    "suspended": {
                        "id": state.id,
                        "type": state.type,
                        "name": state.name,
                        "timestamp": state.at,
                        "state_details": {"pause_reschedule": True},
                    }
                }
            )
        )
        replies: set[asyncio.Task[None]] = set()
        try:
            while line := await reader.readline():
                message = wire.decode(line)
                if "log" in message:
                    self._console.record(message["log"], message.get("number"))
                elif "told" in message:
                    self.told = (message["told"], message["name"])
                    if message["told"] == RUNNING:
                        self._guard.look()
                        self._errands.running()
                elif "update" in message:
                    self._errands.update(message["update"])
                elif "secret" in message:
                    self._console.mask(str(message["secret"]))
                elif "failed" in message:
                    self.failed = str(message["failed"])
                elif "ask" in message:
                    # What is written may take as long as the server is away: go on reading.
                    replies.add(asyncio.create_task(self._reply(writer, message)))
        except (OSError, ValueError):
            return  # the process ended in the middle of a word
        finally:
            for reply in replies:
                reply.cancel()
            writer.close()

    async def _reply(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        answer = await self._answer(message)
        with contextlib.suppress(OSError):
            writer.write(wire.encode({**answer, "number": message.get("number")}))
            await writer.drain()

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        match message["ask"]:
            case "job":
                return {**self._answers, "supervisor": os.getpid()}
            case "start":
                return {"go": await self._confirmed == "go" and self._guard.end is None}
            case "storage":
                return await self._errands.storage()
            case "write":
                written = await self._write(message["body"])
                return {"status": written[0], "body": written[1]} if written else {}
            case "settled":
                await self._errands.done()
                return {}
            case "state":
                return await self._may_write(message)
            case _:
                return {}

    async def _may_write(self, message: dict[str, Any]) -> dict[str, Any]:
        """Whether the flow engine may write a state, and with which message."""
        note = self._job.claim
        if message["type"] != RUNNING:
            await self._errands.done()
            await self._console.shipped(PATIENCE)
        end = self._guard.end
        if end is End.ABORT:
            return {"aborting": True, "message": "aborted"}
        if end is not None:
            return {"go": False}
        if message["type"] == RUNNING:
            return {"go": True, "message": str(lifecycle.running(note).note)}
        text = str(message.get("message") or f"{message['name'].lower()} on {note.agent}")
        return {"go": True, "message": str(note.but(text))}
