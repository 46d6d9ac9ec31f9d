"""A request that is given up must not arrive later: its connection is reset, not closed.

The kernel goes on sending what was written to a socket that is closed, for minutes where a network
is down. A write that its claim's holder has given up would arrive after somebody else has taken
the task over.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def trace(event: str, info: Mapping[str, Any]) -> None:
    """The `trace` extension of httpx for requests of a client: sees its connections come up."""
    if event == "connection.connect_tcp.complete":
        sock = info["return_value"].get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)


async def trace_async(event: str, info: Mapping[str, Any]) -> None:
    """The same for an asynchronous client."""
    trace(event, info)
