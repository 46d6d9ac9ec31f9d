"""The verbs about triggers: checking, making, listing, changing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clearflow._prefect.http import Api
from clearflow.service.verbs import Verb

if TYPE_CHECKING:
    from clearflow.automation.triggers import Shown

# The engine is imported where it is used: it takes longer than all other groups together.


class Triggers:
    """Answers for one person, `by`, in whose name tasks will be launched."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def verbs(self) -> dict[str, Verb]:
        return {
            "trigger.check": self._check,
            "trigger.put": self._put,
            "trigger.list": self._list,
            "trigger.remove": self._remove,
            "trigger.active": self._active,
        }

    async def _check(self, triggers: Sequence[Mapping[str, Any]]) -> None:
        """Raises what is wrong with triggers, in one line; nothing is made."""
        from clearflow.automation import triggers as engine
        from clearflow.automation.reactions import parsed

        await engine.check(self._api, [parsed(each) for each in triggers])

    async def _put(
        self,
        triggers: Sequence[Mapping[str, Any]],
        scheduler: str | None = None,
        project: str | None = None,
        queue: str | None = None,
        exactly: bool = False,
    ) -> list[dict[str, str]]:
        """The group has these triggers; with `exactly` no others."""
        from clearflow.automation import triggers as engine
        from clearflow.automation.reactions import parsed

        wanted = [parsed(each) for each in triggers]
        done = await engine.put(
            self._api,
            scheduler or engine.NAME,
            project or engine.PROJECT,
            wanted,
            by=self._by,
            queue=queue or engine.QUEUE,
            exactly=exactly,
        )
        return [{"name": name, "done": what} for name, what in done]

    async def _list(
        self, scheduler: str | None = None, project: str | None = None
    ) -> list[dict[str, Any]]:
        from clearflow.automation import triggers as engine

        found = await engine.listing(self._api, scheduler, project)
        return [seen(self._api, each) for each in found]

    async def _remove(
        self, trigger: str, scheduler: str | None = None, project: str | None = None
    ) -> None:
        from clearflow.automation import triggers as engine

        await engine.remove(self._api, await engine.one(self._api, trigger, scheduler, project))

    async def _active(
        self,
        trigger: str,
        active: bool,
        scheduler: str | None = None,
        project: str | None = None,
    ) -> None:
        from clearflow.automation import triggers as engine

        there = await engine.one(self._api, trigger, scheduler, project)
        await engine.pause(self._api, there, active=active)


def seen(api: Api, shown: Shown) -> dict[str, Any]:
    """A trigger as JSON has it."""
    asked = shown.trigger
    return {
        "name": asked.name,
        "scheduler": shown.group.name,
        "project": shown.group.project,
        "queue": shown.group.queue,
        "kind": asked.kind,
        "when": asked.when().words,
        "what": asked.launch.what,
        "active": shown.active,
        "launched": shown.fired,
        "task": shown.task,
        "trigger": asked.dump(),
        "url": f"{api.connection.ui_url}/automations/automation/{shown.automations[0].id}",
    }
