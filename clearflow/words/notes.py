"""What clearflow writes into the message of a state: a sentence, then fields in brackets.

    claimed by gpu-box:0, attempt 2 [attempt=2 agent=gpu-box:0 claim=1f0c since=2026-01-05T09:30:00]

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

_KNOWN = frozenset({"attempt", "agent", "claim", "since", "by"})
_QUOTED = re.compile(r"\s?\[attempt=\d+ agent=\S+ claim=[0-9a-f]+(?: (?:since|by)=[^\s\]]+)*\]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


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
        # Databases refuse NUL, and half a character cannot be sent.
        text = _UNSTORABLE.sub("�", self.text)
        fields = " ".join(
            f"{k}={quote(_UNSTORABLE.sub('�', v), safe=':+@.-')}" for k, v in pairs.items() if v
        )
        # A sentence that ends like fields do is followed by empty ones.
        if not fields and _split(text) is None:
            return text
        return f"{text} [{fields}]" if text else f"[{fields}]"

    @classmethod
    def parse(cls, message: str | None) -> Note:
        """The note in a message; a message that is not ours is all sentence."""
        message = message or ""
        parts = _split(message)
        if parts is None:
            return cls(text=message)
        text, fields = parts
        try:
            return cls(
                text=text,
                by=fields.get("by"),
                since=clock.parse(fields["since"]) if "since" in fields else None,
                attempt=int(fields.get("attempt", 1)),
                agent=fields.get("agent"),
                claim=fields.get("claim"),
            )
        except ValueError:
            return cls(text=message)

    def but(self, text: str, **changes: Any) -> Note:
        """The same note with another sentence and other fields."""
        return replace(self, text=text, **changes)


def _split(message: str) -> tuple[str, dict[str, str]] | None:
    """The sentence and the fields of a message; None when it does not end with fields."""
    text, bracket, rest = message.rpartition("[")
    if not bracket or not rest.endswith("]") or (text and not text.endswith(" ")):
        return None
    fields = {}
    for pair in rest[:-1].split():
        key, equals, value = pair.partition("=")
        if not equals or key not in _KNOWN:
            return None
        fields[key] = unquote(value)
    return text[:-1], fields


def without_fields(text: str) -> str:
    """A text that quotes a note, such as Prefect's own log lines, as people want to read it."""
    return _QUOTED.sub("", text)


@dataclass(frozen=True)
class Verdict:
    """What the supervisor says to a state that the flow engine wants to write."""

    message: str
    go: bool = True
    aborting: bool = False
