"""Messages between an agent, its supervisors and their children: one JSON object per line."""

from __future__ import annotations

import json
import socket
from typing import Any


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, default=str).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line; an empty one for anything else than an object."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


class Channel:
    """The blocking end of a stream socket, for a child process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")

    def send(self, message: dict[str, Any]) -> None:
        self._sock.sendall(encode(message))

    def receive(self) -> dict[str, Any]:
        """The next message. Raises EOFError when the other side is gone."""
        line = self._file.readline()
        if not line:
            raise EOFError("the supervisor is gone")
        return decode(line)
