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
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from clearflow._prefect import logs
from clearflow._prefect.http import Api
from clearflow._prefect.logs import Line
from clearflow.errors import ClearflowError, NotFound
from clearflow.supervisor.lines import Lines, Masks, Piece, without_marks
from clearflow.words.notes import without_fields

_SHIP_EVERY = 0.25
_LARGEST_BATCH = 1_000_000


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
        self._masks = Masks(secrets)
        self._lines = Lines(self._masks)
        # Pieces that wait for the record which stands before them, and records for their place.
        self._pieces: deque[Piece] = deque()
        self._records: dict[int, Mapping[str, Any]] = {}
        self._queue: deque[Line] = deque()
        self._tail: deque[Line] = deque()
        self._tail_size = self._left_out = 0
        self._last = datetime.min.replace(tzinfo=api.clock.now().tzinfo)
        self._closed = False
        self._news, self._hurry, self._sent = asyncio.Event(), asyncio.Event(), asyncio.Event()
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

    def take(self, chunk: bytes) -> None:
        chunk = self._lines.whole(chunk)
        self._keep(without_marks(chunk))
        self._pieces += self._lines.take(chunk)
        self._advance()

    def record(self, record: Mapping[str, Any], number: int | None = None) -> None:
        """A log record of the flow, as Prefect's own handler would send it.

        With a number it is shown where its mark is printed.
        """
        if number is None:
            self._say_record(record)
            return
        self._records[number] = record
        if self._pieces:
            self._advance()

    def _advance(self, wait: bool = True) -> None:
        """Say what has come, up to a record that has not come yet."""
        while self._pieces:
            piece = self._pieces[0]
            if isinstance(piece, str):
                self.say(piece)
            elif piece in self._records:
                self._say_record(self._records.pop(piece))
            elif wait:
                return
            self._pieces.popleft()

    def _say_record(self, record: Mapping[str, Any]) -> None:
        message = without_fields(str(record.get("message", "")))
        self._keep(f"{message}\n".encode())
        self.say(
            message,
            level=int(record.get("level") or 20),
            logger=str(record.get("name") or "prefect.flow_runs"),
            task_run_id=record.get("task_run_id"),
            run_id=record.get("flow_run_id"),
        )

    def note(self, message: str, level: int = 20) -> None:
        """A line of clearflow's own."""
        self._keep(f"{message}\n".encode())
        self.say(message, level=level, logger="clearflow")

    def mask(self, secret: str) -> None:
        """Never show this value in what is shipped."""
        self._masks.add(secret)

    def say(
        self,
        text: str,
        level: int = 20,
        logger: str = "console",
        task_run_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        line = Line(
            self._masks(text), self._moment(), level, logger, task_run_id=task_run_id, run_id=run_id
        )
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
            batch = self._batch()
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
            self._sent.set()
            if not self._closed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SHIP_EVERY):
                        await self._hurry.wait()

    async def shipped(self, patience: float) -> None:
        """Until Prefect has what was printed so far, for at most so many seconds.

        Whoever waits for a task's end and then reads its log should find all of it.
        """
        self._hurry.set()
        try:
            async with asyncio.timeout(patience):
                await asyncio.sleep(0)  # the pipe may hold some yet
                while self._queue:
                    self._sent.clear()
                    await self._sent.wait()
        except TimeoutError:
            pass
        finally:
            self._hurry.clear()

    def _batch(self) -> list[Line]:
        """The next lines to send, not too many bytes at once."""
        batch: list[Line] = []
        size = 0
        for line in islice(self._queue, logs.BATCH):
            size += len(line.message)
            if batch and size > _LARGEST_BATCH:
                break
            batch.append(line)
        return batch

    def close(self) -> None:
        """No more will come: move the tail behind the head, and let `ship` end."""
        self._pieces += self._lines.end()
        self._advance(wait=False)
        for number in sorted(self._records):
            self._say_record(self._records.pop(number))
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
