"""What can go wrong, in families by what the reader should do next.

The docstring of each class is its default message. `exit_code` is what the command line exits with.
"""

from __future__ import annotations


class ClearflowError(Exception):
    """clearflow could not do what was asked."""

    exit_code = 1

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        super().__init__(self.message)


class Usage(ClearflowError):
    """The request makes no sense as it stands."""

    exit_code = 2


class NotFound(ClearflowError):
    """There is no such thing on the server."""

    exit_code = 3


class Unreachable(ClearflowError):
    """The Prefect server does not answer."""

    exit_code = 4


class Refused(ClearflowError):
    """The server or the state of things does not allow this."""

    exit_code = 5


class Unauthorized(Refused):
    """The server does not accept this key."""


class Conflict(Refused):
    """Somebody else changed this first."""


class ServerError(ClearflowError):
    """The Prefect server failed to answer a request."""


class EnvironmentFailed(ClearflowError):
    """The task's environment could not be built."""
