"""The verbs about searches: checking, starting, waiting for trials, and the best of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from clearflow._prefect import events, runs
from clearflow._prefect.http import Api
from clearflow.errors import Refused
from clearflow.service.verbs import Verb

# The engine is imported where it is used: it takes longer than all other groups together.
_LONGEST = 300.0  # seconds that one question waits
_COMMITS = (0.05, 0.3, 1.0, 3.0)


class Searches:
    """Answers for one person, `by`, in whose name searches are started."""

    def __init__(self, api: Api, by: str) -> None:
        self._api, self._by = api, by

    def verbs(self) -> dict[str, Verb]:
        return {
            "search.check": self._check,
            "search.start": self._start,
            "search.trials": self._trials,
            "search.await": self._await,
            "search.limit": self._limit,
            "search.list": self._list,
        }

    async def _check(self, settings: Mapping[str, Any]) -> list[str]:
        """What may be wrong, a line for each; raises what is wrong, in one."""
        from clearflow.automation.search import starting

        return await starting.check(self._api, _parsed(settings), queue_later=True)

    async def _start(
        self, settings: Mapping[str, Any], name: str, project: str, queue: str
    ) -> dict[str, Any]:
        from clearflow.automation.search import starting
        from clearflow.tasks.describe import describe

        run = await starting.start(
            self._api, _parsed(settings), name=name, project=project, queue=queue, by=self._by
        )
        return describe(self._api, run)

    async def _trials(self, task: str) -> list[dict[str, Any]]:
        """The trials that have come to a value, the best first; then the others in their order."""
        from clearflow.automation.search import starting, trials

        run, settings = await starting.settings_of(self._api, task)
        found = await trials.trials(self._api, run.task_id)
        best = trials.best(found, settings.objectives)
        order = [*best, *(trial for trial in found if trial not in best)]
        return [
            trials.seen(self._api, trial, settings.objectives, settings.space) for trial in order
        ]

    async def _limit(self, task: str, minutes: float | None = None) -> str | None:
        """The search ends in so many minutes from now, or not by time; the moment.

        Raises Refused for one that has ended.
        """
        from clearflow.automation.search import limits, starting, trials

        run, _ = await starting.settings_of(self._api, task)
        if run.state is not None and run.state.final:
            raise Refused(f"the search {run.task_id[:8]} ({run.name}) has ended")
        end = None
        if minutes is not None:
            end = (self._api.clock.now() + timedelta(minutes=minutes)).isoformat()
        await runs.label(self._api, run.id, {limits.LIMIT: end or limits.NEVER})
        related = {f"prefect.tag.{trials.mark(run.task_id)}": "tag"}
        await events.emit(self._api, limits.LIMIT, f"clearflow.task.{run.task_id}", related=related)
        return end

    async def _list(self, limit: int | None = None) -> list[dict[str, Any]]:
        """The searches, the latest first, with how many trials have ended and the best value."""
        from clearflow.automation.search import starting, trials
        from clearflow.tasks.describe import describe

        rows = []
        async for run in runs.find(self._api, {"tags": {"all_": [starting.TAG]}}, limit=limit):
            _, settings = await starting.settings_of(self._api, run.task_id)
            found = await trials.trials(self._api, run.task_id)
            best = trials.best(found, settings.objectives)
            about = describe(self._api, run)
            names = ("id", "name", "project", "status", "url")
            rows.append(
                {
                    **{name: about[name] for name in names},
                    "trials": len(found),
                    "ended": sum(trial.ended is not None for trial in found),
                    "best": trials.seen(self._api, best[0], settings.objectives, settings.space)
                    if best
                    else None,
                }
            )
        return rows

    async def _await(self, task: str, ended: int, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until more than `ended` trials have ended, or all of it."""
        from clearflow.automation.search import trials

        seen: dict[str, Any] = {}

        async def look() -> bool:
            run = await _now(self._api, task)
            found = await self._trials(task)
            over = run.state is not None and run.state.final
            seen.update(trials=found, over=over, status=run.status(self._api.clock.now()))
            return over or sum(t["iteration"] is not None for t in found) > ended

        run = await _now(self._api, task)
        resources = [f"prefect.tag.{trials.mark(run.task_id)}", f"prefect.flow-run.{run.id}"]
        names = [trials.SETTLED, f"{events.FLOW_RUN}*"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout, _LONGEST)):
                async for event in events.stream(self._api.connection, resources, names):
                    own = event.run_id == run.id and event.state is not None and event.state.final
                    news = own or event.name in {trials.SETTLED, events.CONNECTED.name}
                    # That it has ended is told before it is committed.
                    for pause in _COMMITS if own else (0.0,) if news else ():
                        await asyncio.sleep(pause)
                        if await look():
                            return seen
        await look()
        return seen


async def _now(api: Api, task: str) -> Any:
    from clearflow.tasks import find as finding

    return await finding.one(api, task)


def _parsed(settings: Mapping[str, Any]) -> Any:
    """Raises Usage, in one line, for what does not fit."""
    from clearflow.automation.forms import parsed
    from clearflow.automation.search.settings import SearchSettings

    return parsed(SearchSettings, settings, "search")
