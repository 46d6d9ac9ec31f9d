"""Verbs of the service, asked by a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clearflow.cli.output import ask

if TYPE_CHECKING:
    from clearflow._prefect.http import Api


def asked(verb: str, **arguments: Any) -> Any:
    """What the service answers, in the name of whoever runs the command."""
    from clearflow.capture.owner import owner

    async def act(api: Api) -> Any:
        from clearflow.service.answers import Service

        return await Service(api, owner()).answer(verb, arguments)

    return ask(act)


def completes(verb: str, title: Callable[[dict[str, Any]], str]) -> Callable[[str], list[str]]:
    """Completion for the shell: the titles of what `verb` lists."""

    def complete(incomplete: str) -> list[str]:
        from clearflow.errors import ClearflowError

        try:
            found = asked(verb)
        except ClearflowError:
            return []
        return [name for each in found if (name := title(each)).startswith(incomplete)]

    return complete
