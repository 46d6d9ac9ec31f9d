"""A task's console: read at the file-descriptor level, kept whole here, shipped to Prefect.

Whatever prints (Python, C code, a child process) ends in one pipe. Lines and the flow's own log
records are shipped in the order in which they came, with strictly rising timestamps, so that the
Prefect UI shows them in that order. Of a very long console Prefect gets the first and the last
part; all of it stays in `console.log` on the agent until the task has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from clearflow._prefect import logs
from clearflow._prefect.http import Api
from clearflow._prefect.logs import Line
from clearflow.errors import ClearflowError, NotFound

_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH_STRING)", re.I)
_MASK = "********"
SHORTEST_SECRET = 6  # shorter ones would be found in ordinary words
_SHIP_EVERY = 0.25
_LONGEST_LINE = 16_384


def secrets_of(env: Mapping[str, str]) -> list[str]:
    """The values of an environment that must not be shown, by the names of their variables."""
    found = {v for k, v in env.items() if len(v) >= SHORTEST_SECRET and _SECRET.search(k)}
    return sorted(found, key=len, reverse=True)


def fold(text: str) -> str:
    """A line as a terminal shows it in the end: what a carriage return overwrote is gone."""
    return next((part for part in reversed(text.split("\r")) if part), "")


class Console:
    """The console of one task."""

    def __init__(
        self,
        api: Api,
        run_id: str,
        path: Path,
        *,
        head: int,
        tail: int,
        secrets: Iterable[str] = (),
    ) -> None:
        self._api = api
        self._run_id = run_id
        self._path = path
        self._head_left, self._tail_limit = head, tail
        self._secrets = list(secrets)
        self._queue: deque[Line] = deque()
        self._tail: deque[Line] = deque()
        self._tail_size = self._left_out = 0
        self._partial = b""
        self._last = datetime.min.replace(tzinfo=api.clock.now().tzinfo)
        self._closed = False
        self._news = asyncio.Event()
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    async def read(self, output: int) -> None:
        """Take in everything from a pipe until nobody can write to it any more."""
        loop = asyncio.get_running_loop()
        os.set_blocking(output, False)
        readable = asyncio.Event()
        loop.add_reader(output, readable.set)
        try:
            while True:
                try:
                    chunk = os.read(output, 1 << 18)
                except BlockingIOError:
                    readable.clear()
                    await readable.wait()
                    continue
                if not chunk:
                    return
                self.take(chunk)
                # A task that prints without end must not keep aborts and heartbeats waiting.
                await asyncio.sleep(0)
        finally:
            loop.remove_reader(output)
            os.close(output)
            self.flush_partial()

    def take(self, chunk: bytes) -> None:
        self._keep(chunk)
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            lines.append(self._partial)
            self._partial = b""
        for raw in lines:
            self.say(fold(raw.decode(errors="replace")))

    def flush_partial(self) -> None:
        """A last line without an end is a line too."""
        if self._partial:
            self.say(fold(self._partial.decode(errors="replace")))
            self._partial = b""

    def record(self, record: Mapping[str, Any]) -> None:
        """A log record of the flow, as Prefect's own handler would send it."""
        message = str(record.get("message", ""))
        self._keep(f"{message}\n".encode())
        self.say(
            message,
            level=int(record.get("level") or 20),
            logger=str(record.get("name") or "prefect.flow_runs"),
            task_run_id=record.get("task_run_id"),
        )

    def note(self, message: str, level: int = 20) -> None:
        """A line of clearflow's own."""
        self._keep(f"{message}\n".encode())
        self.say(message, level=level, logger="clearflow")

    def mask(self, secret: str) -> None:
        """Never show this value in what is shipped."""
        if len(secret) >= SHORTEST_SECRET:
            self._secrets.append(secret)

    def say(
        self, text: str, level: int = 20, logger: str = "console", task_run_id: str | None = None
    ) -> None:
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        line = Line(text, self._moment(), level, logger, task_run_id)
        size = len(text) + 1
        if self._head_left > 0:
            self._head_left -= size
            self._queue.append(line)
            self._news.set()
            return
        self._tail.append(line)
        self._tail_size += size
        while self._tail_size > self._tail_limit and self._tail:
            dropped = len(self._tail.popleft().message) + 1
            self._tail_size -= dropped
            self._left_out += dropped

    def _moment(self) -> datetime:
        moment = max(self._api.clock.now(), self._last + timedelta(microseconds=1))
        self._last = moment
        return moment

    def _keep(self, chunk: bytes) -> None:
        if self._file is None:
            return
        try:
            os.write(self._file, chunk)
        except OSError as error:
            os.close(self._file)
            self._file = None
            self.say(f"the console is no longer kept on the agent: {error.strerror}", level=30)

    async def ship(self) -> None:
        """Send lines to Prefect until `close`, and everything that is left then."""
        while not (self._closed and not self._queue):
            if not self._queue:
                self._news.clear()
                if not self._closed:
                    await self._news.wait()
                continue
            batch = [self._queue[i] for i in range(min(len(self._queue), logs.BATCH))]
            try:
                await logs.send(self._api, self._run_id, batch)
            except NotFound:
                self._queue.clear()  # the run was deleted
                return
            except ClearflowError as error:
                # A batch the server refuses is refused again: leave it out, and say so once.
                self._keep(f"clearflow: some lines did not reach Prefect: {error}\n".encode())
            for _ in batch:
                self._queue.popleft()
            if not self._closed:
                await asyncio.sleep(_SHIP_EVERY)

    def close(self) -> None:
        """No more will come: move the tail behind the head, and let `ship` end."""
        self.flush_partial()
        if self._left_out:
            at = self._tail[0].at - timedelta(microseconds=1) if self._tail else self._moment()
            text = f"… {self._left_out:,} bytes are left out here …"
            self._queue.append(Line(text, at, 30, "clearflow"))
        self._queue.extend(self._tail)
        self._tail.clear()
        self._closed = True
        self._news.set()
        if self._file is not None:
            os.close(self._file)
            self._file = None
