"""What clearflow writes into the message of a state: a sentence, then fields in brackets.

The message is the one thing that is written in the same transaction as the state, so whoever
reads the state knows for certain who holds the task, since when it waits, and which attempt this
is. People read the sentence in the Prefect UI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from clearflow import clock

_FIELDS = re.compile(r"\s*\[((?:[a-z]+=[^\s\[\]]*\s?)+)\]$")


@dataclass(frozen=True, slots=True)
class Note:
    """The message of a state.

    `attempt` counts from 1: the attempt that runs, or the next one while the task waits. `since`
    is when the task was enqueued, whatever moves came after. `claim` is a random token, new for
    every claim: two states with the same token belong to the same holder. `agent` is the name of
    the agent that holds the task, `by` the person or agent that acted last.
    """

    text: str = ""
    by: str | None = None
    since: datetime | None = None
    attempt: int = 1
    agent: str | None = None
    claim: str | None = None

    def __str__(self) -> str:
        pairs = {
            "attempt": str(self.attempt) if self.attempt != 1 or self.claim else None,
            "agent": self.agent,
            "claim": self.claim,
            "since": self.since.isoformat() if self.since else None,
            "by": self.by,
        }
        fields = " ".join(f"{k}={quote(v, safe=':+@.-')}" for k, v in pairs.items() if v)
        return f"{self.text} [{fields}]".strip() if fields else self.text

    @classmethod
    def parse(cls, message: str | None) -> Note:
        """The note in a message; a message that is not ours is all sentence."""
        message = message or ""
        match = _FIELDS.search(message)
        if not match:
            return cls(text=message)
        fields = dict(pair.split("=", 1) for pair in match[1].split())
        try:
            return cls(
                text=message[: match.start()],
                by=_field(fields, "by"),
                since=clock.parse(unquote(fields["since"])) if "since" in fields else None,
                attempt=int(fields.get("attempt", 1)),
                agent=_field(fields, "agent"),
                claim=_field(fields, "claim"),
            )
        except ValueError:
            return cls(text=message)

    def but(self, text: str, **changes: Any) -> Note:
        """The same note with another sentence and other fields."""
        return replace(self, text=text, **changes)


def _field(fields: dict[str, str], key: str) -> str | None:
    return unquote(fields[key]) if key in fields else None
