"""What programs ask: one verb, some arguments, an answer that JSON can carry.

A program on a laptop asks here directly; one that an agent runs asks its supervisor, which asks
here. So a task's own process needs neither Prefect nor the server's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from clearflow._prefect.http import Api
from clearflow.service.verbs import Group, Verb

# Groups of verbs, by module and class. One whose verbs begin with its noun is not loaded before
# somebody asks for such a verb: a program's first question shall not wait for all of them.
_PLAIN = (("tasks", "Tasks"), ("readings", "Readings"), ("spool", "Spool"))
_NOUNS = {
    "dataset": ("datasets", "Datasets"),
    "model": ("models", "ModelVerbs"),
    "pipeline": ("pipelines", "Pipelines"),
    "schedule": ("schedules", "Schedules"),
    "queue": ("queues", "Queues"),
    "search": ("searches", "Searches"),
    "trigger": ("triggers", "Triggers"),
}

OF_RESULTS = ("scalars", "last", "artifacts", "artifact")
"""The verbs that read results."""


class Service:
    """Answers for one person, `by`, in whose name things are changed."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def knows(self, verb: str) -> bool:
        return self._find(verb) is not None

    async def answer(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """The answer to a question. Raises a ClearflowError that says why there is none."""
        found = self._find(verb)
        if found is None:
            raise KeyError(verb)
        return await found(**arguments)

    def _find(self, verb: str) -> Verb | None:
        for group in _groups(verb.partition(".")[0] if "." in verb else None):
            if verb in (verbs := group(self._api, self._by).verbs()):
                return verbs[verb]
        return None


def _groups(noun: str | None) -> Iterator[Callable[[Api, str], Group]]:
    """The groups that may know a verb of this noun, or one without a noun."""
    for module, name in _PLAIN if noun is None else filter(None, (_NOUNS.get(noun),)):
        yield getattr(import_module(f"clearflow.service.{module}"), name)


def load() -> None:
    """Load all groups, for processes that are forked from this one."""
    for noun in (None, *_NOUNS):
        list(_groups(noun))
