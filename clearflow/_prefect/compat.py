"""Which Prefect servers clearflow is made for."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from clearflow._prefect.http import Api
from clearflow.errors import NotFound, ServerError, Unreachable

MADE_FOR = ">=3.8.8,<3.9"
_OLDEST, _TOO_NEW = (3, 8, 8), (3, 9)

_looked_at: set[str] = set()


def fits(version: str) -> bool:
    """Whether a server of this version is one that clearflow is made for."""
    parts = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if parts is None:
        return False
    numbers = tuple(int(p or 0) for p in parts.groups())
    return _OLDEST <= numbers < _TOO_NEW


async def warn(api: Api, say: Callable[[str], None]) -> None:
    """Say so, once per process and server, when the server is older or newer than that.

    Raises Unreachable when it is no Prefect server at all.
    """
    if api.connection.url in _looked_at:
        return
    _looked_at.add(api.connection.url)
    # Prefect Cloud has no version.
    with suppress(NotFound, ServerError):
        version = await api.get("/admin/version")
        if not isinstance(version, str):
            raise Unreachable(
                f"{api.connection.url} is no Prefect server: it answers with something else",
                hint="the URL of a Prefect server ends in /api",
            )
        if not fits(version):
            say(f"warning: the server is Prefect {version}, and clearflow is made for {MADE_FOR}")
