"""Alerts as a message: in plain words, and as Slack shows them. Pure.

Limits of Slack's Block Kit: 50 blocks a message, 3,000 characters a section.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clearflow.automation import alerts as words
from clearflow.automation.alerts import TOGETHER, Alert
from clearflow.automation.channels import Message

_LISTED = 15
_SECTION = 2_900  # characters
_SIGNS = {
    words.COMPLETED: "✅",
    words.FAILED: "❌",
    words.CRASHED: "💥",
    words.ABORTED: "🛑",
    words.LOST: "♻️",
    words.WAITING: "⏳",
    words.DOWN: "🔌",
    words.BACK: "🔋",
    words.IDLE: "💤",
    words.BUDGET: "💰",
}


def message(
    id: str,
    alerts: Sequence[Alert],
    consoles: Mapping[str, Sequence[str]] | None = None,
    prefix: str = "",
) -> Message:
    """One message for all of them. `consoles` are the last lines of tasks, by id of their run.

    More than a few are told by their numbers and first names.
    """
    head = words.headline(alerts, prefix)
    if len(alerts) > TOGETHER:
        lines = [_plain(alert) for alert in alerts[:_LISTED]]
        listed = "\n".join(_linked(alert) for alert in alerts[:_LISTED])
        if (more := len(alerts) - _LISTED) > 0:
            lines.append(f"and {more} more")
            listed += f"\nand {more} more"
        return Message(id, "\n".join([head, *lines]), (_section(f"*{_escaped(head)}*\n{listed}"),))
    texts: list[str] = [head] if len(alerts) > 1 else []
    blocks: list[dict[str, Any]] = []
    for alert in alerts:
        said = words.details(alert)
        texts.append(_plain(alert, prefix if len(alerts) == 1 else ""))
        blocks.append(_section("\n".join(filter(None, [_linked(alert, prefix), _escaped(said)]))))
        console = (consoles or {}).get(alert.run or "")
        if console:
            blocks.append(_section(_fenced(console)))
    return Message(id, "\n".join(texts), tuple(blocks))


def _plain(alert: Alert, prefix: str = "") -> str:
    said = words.details(alert)
    text = words.headline([alert], prefix) + (f" ({said})" if said else "")
    return f"{_SIGNS.get(alert.kind, '•')} {text}" + (f"\n{alert.url}" if alert.url else "")


def _linked(alert: Alert, prefix: str = "") -> str:
    text = _escaped(words.headline([alert], prefix)).replace("|", "¦")
    shown = f"<{alert.url}|{text}>" if alert.url else text
    return f"{_SIGNS.get(alert.kind, '•')} {shown}"


def _section(text: str) -> dict[str, Any]:
    if len(text) > _SECTION:
        text = text[:_SECTION].rsplit("\n", 1)[0] + "\n…"
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _fenced(lines: Sequence[str]) -> str:
    """The last lines that fit, as code."""
    kept: list[str] = []
    size = 0
    for line in reversed(lines):
        line = _escaped(line.replace("```", "'''"))[:500]
        size += len(line) + 1
        if size > _SECTION - 10:
            break
        kept.insert(0, line)
    return "```" + "\n".join(kept) + "```"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
