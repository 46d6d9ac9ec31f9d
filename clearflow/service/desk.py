"""Where the process of one running task asks: about itself, and about any other task.

It speaks lines of JSON over a socket: `{"ask": verb, "with": {…}, "number": n}`, and is answered
with `{"number": n, "answer": …}`, or with an `"error"` in one line and what to do about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError, Usage
from clearflow.runtimes import wire
from clearflow.service.answers import OF_RESULTS, Service
from clearflow.service.crossings import Crossings
from clearflow.service.results import Results, Scalars
from clearflow.tasks.describe import describe
from clearflow.words import parameters as words
from clearflow.words.models import Run
from clearflow.words.names import HERE
from clearflow.words.scripts import Script

# The command line that the section Args was made from, as JSON.
_LINE = "clearflow.arguments"
LONGEST = 1 << 26  # bytes of a question


class Desk:
    """Answers the process of one task.

    `verdict` is the end that the process declared for itself, with its reason; `grace` are the
    seconds that it wants for its end. `say` puts a line of a level into the task's console. `more`
    answers further verbs. `run` is its run, where that was read just now.
    """

    def __init__(
        self,
        api: Api,
        run_id: str,
        say: Callable[[str, int], None],
        more: Mapping[str, Callable[..., Awaitable[Any]]] | None = None,
        run: Run | None = None,
    ) -> None:
        self._api, self._run_id, self._say = api, run_id, say
        self.results = Results(api, run_id, lambda text: say(text, 40))
        self._crossings = Crossings(api, run_id, lambda text: say(text, 40))
        self.verdict: tuple[str, str] | None = None
        self.grace = 0.0
        self._run = run
        self._parameters: dict[str, Any] = dict(run.parameters) if run is not None else {}
        self._line: str | None = None
        self._changed = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._verbs: dict[str, Callable[..., Awaitable[Any]]] = {
            "me": self._me,
            "connect": self._connect,
            "grace": self._grace,
            **(more or {}),
        }
        # What is told and not asked is done at once, so that it counts for all that comes after.
        self._told: dict[str, Callable[..., None]] = {
            "report": self._report,
            "say": lambda text, level: say(str(text), level),
        }
        self._served: set[asyncio.Future[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends; questions may overlap."""
        replies: set[asyncio.Task[None]] = set()
        self._served.add(served := asyncio.get_running_loop().create_future())
        try:
            while line := await reader.readline():
                message = wire.decode(line)
                if "number" not in message and message.get("ask") in self._told:
                    self._hear(message["ask"], message.get("with") or {})
                elif "ask" in message:
                    replies.add(task := asyncio.create_task(self._reply(writer, message)))
                    task.add_done_callback(replies.discard)
        except (OSError, ValueError):
            return  # the process ended in the middle of a word
        finally:
            for reply in replies:
                reply.cancel()
            writer.close()
            self._served.discard(served)
            served.set_result(None)

    def _hear(self, verb: str, arguments: Mapping[str, Any]) -> None:
        try:
            self._told[verb](**arguments)
        except (TypeError, ValueError) as error:
            self._say(f"{verb}: {error}", 40)

    def _report(self, scalars: Scalars = (), items: Sequence[Mapping[str, Any]] = ()) -> None:
        self.results.take(scalars, items)
        self._crossings.take(scalars)

    async def drained(self) -> None:
        """Until all is here that the processes of the task have said; they have ended."""
        if self._served:
            await asyncio.wait(self._served, timeout=5)

    async def _reply(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        said: dict[str, Any] = {"number": message.get("number")}
        try:
            said["answer"] = await self.answer(str(message["ask"]), message.get("with") or {})
        except ClearflowError as error:
            said |= {"error": error.message, "hint": error.hint, "kind": type(error).__name__}
        except TimeoutError:
            said |= {"error": "it took too long", "kind": "TimeoutError"}
        if said["number"] is None:
            return  # it was told, not asked
        with contextlib.suppress(OSError):
            writer.write(wire.encode(said))
            await writer.drain()

    async def answer(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """Raises ClearflowError."""
        run = await self._own()
        own = arguments.get("task") in {run.id, run.task_id}
        if own and verb == "finish":
            self.verdict = (arguments["status"], arguments.get("reason", ""))
            return None
        if own and verb == "change" and arguments.get("parameters") is not None:
            self._set(arguments["parameters"])
            arguments = {k: v for k, v in arguments.items() if k != "parameters"}
        try:
            if verb in self._verbs:
                return await self._verbs[verb](**arguments)
            service = Service(self._api, run.owner or "a task")
            if service.knows(verb):
                await self._noted()
                if verb in OF_RESULTS:
                    await self.results.written()
                return await service.answer(verb, arguments)
        except TypeError as error:
            raise Usage(f"{verb}: {error}") from None
        raise Usage(
            f"nobody here knows {verb!r}",
            hint="the agent's clearflow is older than the one that asks",
        )

    async def _own(self) -> Run:
        if self._run is None:
            self._run = await runs.read(self._api, self._run_id)
            self._parameters = dict(self._run.parameters)
        return self._run

    async def _me(self) -> dict[str, Any]:
        run = await self._own()
        script = HERE in run.tags or Script.of(run.job_variables) is not None
        return {**describe(self._api, run), "parameters": self._parameters, "script": script}

    async def _grace(self, seconds: float) -> None:
        self.grace = float(seconds)

    async def _connect(
        self, section: str, values: Mapping[str, Any], arguments: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """The values of a section as they are to be: what is stored goes before what is said.

        Those of a command line say which; what was stored for another one counts no more.
        """
        run = await self._own()
        if not (HERE in run.tags or Script.of(run.job_variables)):
            raise Usage("the parameters of a flow are its own: it has no sections")
        stored = self._parameters.get(section)
        if arguments is not None:
            line = json.dumps(list(arguments))
            if run.labels.get(_LINE, line) != line:
                stored = None
            if run.labels.get(_LINE) != line:
                self._line = line
        merged = words.merged(values, stored) if isinstance(stored, Mapping) else dict(values)
        self._set({**self._parameters, section: merged})
        return merged

    def _set(self, parameters: Mapping[str, Any]) -> None:
        if parameters == self._parameters:
            return
        self._parameters = dict(parameters)
        self._changed.set()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._changed.is_set():
            self._changed.clear()
            with contextlib.suppress(ClearflowError):
                await runs.patch(self._api, self._run_id, parameters=self._parameters)
                if self._line is not None:
                    line, self._line = self._line, None
                    await runs.label(self._api, self._run_id, {_LINE: line})

    async def _noted(self) -> None:
        if self._writing is not None:
            await self._writing

    async def written(self) -> None:
        """Until everything that was said stands on the server."""
        await self._noted()
        await asyncio.gather(self.results.written(), self._crossings.told())
