"""What programs ask: one verb, some arguments, an answer that JSON can carry.

A program on a laptop asks here directly; one that an agent runs asks its supervisor, which asks
here. So a task's own process needs neither Prefect nor the server's key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clearflow._prefect.http import Api
from clearflow.service.datasets import Datasets
from clearflow.service.models import ModelVerbs
from clearflow.service.pipelines import Pipelines
from clearflow.service.queues import Queues
from clearflow.service.readings import Readings
from clearflow.service.schedules import Schedules
from clearflow.service.searches import Searches
from clearflow.service.spool import Spool
from clearflow.service.tasks import Tasks
from clearflow.service.triggers import Triggers
from clearflow.service.verbs import Group, Verb

_GROUPS: tuple[Callable[[Api, str], Group], ...] = (
    Tasks,
    Readings,
    Spool,
    Pipelines,
    Schedules,
    Datasets,
    Triggers,
    ModelVerbs,
    Searches,
    Queues,
)

OF_RESULTS = ("scalars", "last", "artifacts", "artifact")
"""The verbs that read results."""


class Service:
    """Answers for one person, `by`, in whose name things are changed."""

    def __init__(self, api: Api, by: str) -> None:
        self._verbs: dict[str, Verb] = {}
        for group in _GROUPS:
            self._verbs.update(group(api, by).verbs())

    def knows(self, verb: str) -> bool:
        return verb in self._verbs

    async def answer(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """The answer to a question. Raises a ClearflowError that says why there is none."""
        return await self._verbs[verb](**arguments)
