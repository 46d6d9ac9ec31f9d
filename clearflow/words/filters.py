"""What ClearML's `task_filter` asks for, of tasks as they are described. Pure.

status, type, user, project, parent, id      a word, or a list of which one has to fit
name                                         a regular expression
tags                                         as in words/tagging.py
created, started, completed, last_update     [from, to], either may be None; or [">=2026-01-31"]
search_text                                  words that stand in name, project, comment, tags, id
_any_, _all_                                 {"fields": ["name", "comment"], "pattern": "a|b"}
order_by                                     ["-created", "name"]
page, page_size                              the page after the first is 1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from clearflow.errors import Usage
from clearflow.words import tagging

Seen = Mapping[str, Any]
Test = Callable[[Seen], bool]

_WORDS = ("status", "type", "user", "project", "parent", "id")
_TIMES = {
    "created": ("created",),
    "started": ("started",),
    "completed": ("ended",),
    "last_update": ("ended", "started", "created"),
    "last_change": ("ended", "started", "created"),
    "status_changed": ("ended", "started", "created"),
}
_FIELDS = {
    "project.name": "project",
    "user.name": "user",
    "execution.queue.name": "queue",
    "queue.name": "queue",
}
_OPERATOR = re.compile(r"(>=|<=|>|<)\s*(.+)")
KNOWN = (
    *_WORDS,
    *_TIMES,
    *("name", "tags", "search_text", "_any_", "_all_", "order_by", "page", "page_size"),
)


@dataclass(frozen=True)
class Filter:
    """A filter that was understood: `tests` that a task has to pass, and how they are ordered."""

    tests: Sequence[Test] = ()
    order: Sequence[str] = ()
    page: int = 0
    page_size: int | None = None
    statuses: Sequence[str] = field(default=())

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Filter:
        """Raises Usage for what nobody knows."""
        if unknown := sorted(set(said) - set(KNOWN)):
            raise Usage(
                f"task_filter does not know {', '.join(unknown)}",
                hint=f"it knows {', '.join(KNOWN)}",
            )
        tests: list[Test] = []
        for key, value in said.items():
            if value is not None and key not in {"order_by", "page", "page_size", "status"}:
                tests.append(_test(key, value))
        return cls(
            tests,
            [_order(word) for word in _listed(said.get("order_by"))],
            int(said.get("page") or 0),
            said.get("page_size"),
            tuple(_listed(said.get("status"))),
        )

    def chosen(self, found: Sequence[Seen]) -> list[Seen]:
        """Those of these tasks that fit, in the order and of the page that were asked for."""
        fitting = [seen for seen in found if all(test(seen) for test in self.tests)]
        for word in reversed(self.order):
            name = word.lstrip("-")
            there = [seen for seen in fitting if value_of(seen, name) is not None]
            others = [seen for seen in fitting if value_of(seen, name) is None]
            there.sort(key=lambda seen: _sortable(value_of(seen, name)), reverse=word[0] == "-")
            fitting = [*there, *others]
        if self.page_size is not None:
            fitting = fitting[self.page * self.page_size :][: self.page_size]
        return fitting


def value_of(seen: Seen, name: str) -> Any:
    """What a task has under a name of ClearML's; None when there is nothing."""
    if name == "type":
        return (seen.get("properties") or {}).get("type")
    if name in _TIMES:
        return next((seen[key] for key in _TIMES[name] if seen.get(key)), None)
    return seen.get(_FIELDS.get(name, name))


def _test(key: str, value: Any) -> Test:
    if key in _WORDS:
        wanted = {str(each) for each in _listed(value)}
        return lambda seen: str(value_of(seen, key)) in wanted
    if key in _TIMES:
        return _between(key, value)
    if key == "name":
        return _matching(["name"], value, any)
    if key == "tags":
        tags = [str(each) for each in _listed(value)]
        return lambda seen: tagging.fits(seen.get("tags") or (), tags)
    if key == "search_text":
        words = str(value).casefold()
        return lambda seen: any(words in text.casefold() for text in _texts(seen, _SEARCHED))
    if not isinstance(value, Mapping) or set(value) != {"fields", "pattern"}:
        raise Usage(f"{key} is a dictionary of fields and a pattern, and not {value!r}")
    return _matching(_listed(value["fields"]), value["pattern"], any if key == "_any_" else all)


_SEARCHED = ("name", "project", "comment", "tags", "id")


def _texts(seen: Seen, fields: Sequence[str]) -> list[str]:
    found = []
    for name in fields:
        value = value_of(seen, name)
        several = value if isinstance(value, list | tuple) else [value]
        found.append("\n".join(str(each) for each in several if each is not None))
    return found


def _matching(fields: Sequence[str], pattern: Any, enough: Callable[..., bool]) -> Test:
    try:
        like = re.compile(str(pattern), re.IGNORECASE | re.MULTILINE)
    except re.error as error:
        raise Usage(f"{pattern!r} is not a regular expression: {error}") from None
    return lambda seen: enough(bool(like.search(text)) for text in _texts(seen, fields))


def _between(key: str, value: Any) -> Test:
    bounds: list[tuple[str, datetime]] = []
    for default, each in zip((">=", "<="), [*_listed(value), None][:2], strict=True):
        if each is None:
            continue
        found = _OPERATOR.fullmatch(str(each).strip())
        bounds.append((found[1], _moment(found[2])) if found else (default, _moment(each)))

    def test(seen: Seen) -> bool:
        said = value_of(seen, key)
        return said is not None and all(_holds(_moment(said), *bound) for bound in bounds)

    return test


def _holds(moment: datetime, operator: str, bound: datetime) -> bool:
    if operator in {">=", ">"}:
        return moment > bound or (operator == ">=" and moment == bound)
    return moment < bound or (operator == "<=" and moment == bound)


def _moment(said: Any) -> datetime:
    """A moment; one without a time zone is UTC, as in ClearML."""
    try:
        moment = said if isinstance(said, datetime) else datetime.fromisoformat(str(said))
    except ValueError:
        raise Usage(f"{said!r} is no date", hint="such as 2026-01-31 or 2026-01-31T12:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _order(word: str) -> str:
    known = (*_WORDS, *_TIMES, "name", "progress", *_FIELDS)
    if str(word).lstrip("-") not in known:
        raise Usage(f"tasks cannot be ordered by {word!r}", hint=f"by {', '.join(known)}")
    return str(word)


def _sortable(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
