"""What every group of verbs is: coroutines by name, which take and give what JSON can carry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

Verb = Callable[..., Awaitable[Any]]


class Group(Protocol):
    """Verbs about one kind of thing, answered for one person."""

    def verbs(self) -> dict[str, Verb]: ...
