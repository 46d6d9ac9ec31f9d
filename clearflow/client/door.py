"""The way to whoever answers: the supervisor of this task, or the server.

Inside of a task questions go over the supervisor's socket, which needs nothing but the standard
library. Anywhere else they are answered in this process, which then needs Prefect's address.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from typing import Any

from clearflow import errors
from clearflow.errors import ClearflowError
from clearflow.words.environ import SOCKET


class Line:
    """A line to a supervisor: questions and answers, from any thread; they may overlap.

    Of the threads that wait for an answer one reads, for all of them.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._file = sock, sock.makefile("rb")
        self._answers: dict[int, Any] = {}
        self._heard, self._sending = threading.Condition(), threading.Lock()
        self._reading = False
        self._number = 0

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The answer. Raises the ClearflowError that the other side had, or TimeoutError."""
        with self._heard:
            self._number += 1
            number = self._number
            self._answers[number] = None
        try:
            self._send({"ask": verb, "with": arguments, "number": number})
            answer = self._wait(number)
        except (OSError, ValueError) as error:  # also of a line that was closed meanwhile
            said = f"the supervisor of this task does not answer: {error}"
            raise ClearflowError(said) from None
        finally:
            # An interrupted question may be answered late.
            with self._heard:
                self._answers.pop(number, None)
        if "error" not in answer:
            return answer.get("answer")
        if answer.get("kind") == "TimeoutError":
            raise TimeoutError(answer["error"])
        kind = getattr(errors, str(answer.get("kind")), ClearflowError)
        raise kind(answer["error"], hint=answer.get("hint"))

    def _wait(self, number: int) -> Any:
        while True:
            with self._heard:
                self._heard.wait_for(lambda: self._answers[number] or not self._reading)
                if self._answers[number]:
                    return self._answers[number]
                self._reading = True
            try:
                line = self._file.readline()
                if not line:
                    raise ConnectionError("the supervisor is gone")
                answer = json.loads(line)
            except BaseException:
                self._pass_on(None)
                raise
            self._pass_on(answer)

    def _pass_on(self, answer: Any) -> None:
        """Give an answer to whoever waits for it, and the reading to whoever comes next."""
        with self._heard:
            self._reading = False
            if answer is not None and answer.get("number") in self._answers:
                self._answers[answer["number"]] = answer
            self._heard.notify_all()

    def tell(self, verb: str, **arguments: Any) -> None:
        """Say something that needs no answer. Raises ClearflowError when nobody is there."""
        try:
            self._send({"ask": verb, "with": arguments})
        except OSError as error:
            raise ClearflowError(f"the supervisor of this task is gone: {error}") from None

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._sock.sendall(json.dumps(message, default=str).encode() + b"\n")

    def close(self) -> None:
        # A thread that waits for an answer holds the file: it has to see the end of it first.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._sock.close()


class Direct:
    """Answers from the configured server, in this process."""

    def ask(self, verb: str, **arguments: Any) -> Any:
        from clearflow._prefect import seam
        from clearflow.capture.owner import owner
        from clearflow.service.answers import Service

        return seam.run(lambda api: Service(api, owner()).answer(verb, arguments))


def connect(address: str) -> Line:
    """A line to the socket at this path. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    folder, _, name = address.rpartition("/")
    # The kernel takes no longer names than 108 bytes.
    if len(os.fsencode(address)) < 100 or not os.path.isdir("/proc/self/fd"):
        sock.connect(address)
        return Line(sock)
    handle = os.open(folder, os.O_RDONLY)
    try:
        sock.connect(f"/proc/self/fd/{handle}/{name}")
    finally:
        os.close(handle)
    return Line(sock)


_lock = threading.Lock()
_door: Any = None
_opened_by = 0


def inside() -> bool:
    """Whether this process belongs to a task that an agent runs."""
    return bool(os.environ.get(SOCKET))


def door() -> Any:
    """Where this process asks; a forked child opens its own."""
    global _door, _opened_by
    with _lock:
        if _door is None or _opened_by != os.getpid():
            _door = connect(os.environ[SOCKET]) if inside() else Direct()
            _opened_by = os.getpid()
        return _door


def use(line: Any) -> None:
    """Ask there from now on; None for the ordinary way."""
    global _door, _opened_by
    with _lock:
        _door, _opened_by = line, os.getpid()


def ask(verb: str, **arguments: Any) -> Any:
    """The answer of whoever is there. Raises ClearflowError."""
    return door().ask(verb, **arguments)


def _forget() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
