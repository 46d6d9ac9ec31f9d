"""The verbs about queues: those that a program makes for itself, for as long as it runs."""

from __future__ import annotations

from clearflow._prefect import pools
from clearflow._prefect.http import Api
from clearflow._prefect.template import base_job_template
from clearflow.queues import records
from clearflow.service.verbs import Verb
from clearflow.settings import settings


class Queues:
    """Answers for one person, `by`."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def verbs(self) -> dict[str, Verb]:
        return {"queue.make": self._make, "queue.delete": self._delete}

    async def _make(self, name: str) -> None:
        """Make a queue, and its pool, if they are not there."""
        await pools.ensure(self._api, settings().pool, base_job_template())
        await pools.ensure_queue(self._api, settings().pool, name)

    async def _delete(self, name: str) -> None:
        """Delete an empty queue. Raises Refused for one that has tasks, NotFound."""
        await records.delete(self._api, settings().pool, name, by=self._by)
