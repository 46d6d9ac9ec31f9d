"""Programs that are told of every task that ends, fails or is lost: ClearML's `Monitor`.

They need Prefect's packages: run them on a machine that has clearflow, or as a flow.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from clearflow._prefect import seam
from clearflow._prefect.events import Event
from clearflow._prefect.http import Api
from clearflow._prefect.keepsakes import Keepsake
from clearflow.automation.alerts import LOST, OF_TASKS, kind_of, names_of
from clearflow.automation.cursor import Cursor
from clearflow.automation.feed import Feed
from clearflow.client.task import Task
from clearflow.client.tasks import status_word
from clearflow.errors import Usage
from clearflow.tasks import find as finding
from clearflow.tasks.describe import describe

_KIND = "monitor"


class Monitor:
    """Hands every task of interest to `process_task`, which you override.

    Driven by the server's events: nothing is missed in a burst, nor while the program was down, as
    it remembers under its name how far it came. A task is handed over again when it ends again,
    and when the program was killed while it processed the task.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__
        self._projects: list[str] = []
        self._projects_like: list[re.Pattern[str]] = []
        self._names_like: re.Pattern[str] | None = None
        self._feed: Feed | None = None
        self._keepsake: Keepsake | None = None
        self._listening: asyncio.Task[None] | None = None

    # -- to be overridden ----------------------------------------------------------------------

    def process_task(self, task: Task) -> None:
        """Called for every task, in the order in which they ended."""

    def get_query_parameters(self) -> dict[str, Any]:
        """Which tasks: `status` (words), `tags` (any of them), `user`."""
        return {"status": ["completed", "failed"]}

    # -- to be called --------------------------------------------------------------------------

    def set_projects(
        self,
        project_names: Sequence[str] | None = None,
        project_names_re: Sequence[str] | None = None,
        project_ids: Sequence[str] | None = None,
    ) -> None:
        """Only tasks of these projects, by whole names or regular expressions.

        In Prefect a project is known by its name: ids are names.
        """
        self._projects = [*(project_names or ()), *(project_ids or ())]
        self._projects_like = [_pattern(text) for text in project_names_re or ()]

    def set_task_name_filter(self, task_name_filter: str | None = None) -> None:
        """Only tasks whose name this regular expression is found in."""
        self._names_like = _pattern(task_name_filter) if task_name_filter else None

    def monitor(self, pool_period: float = 15.0) -> None:
        """Process tasks as they end, until Ctrl-C; looks at least every `pool_period` seconds."""
        try:
            while True:
                self.monitor_step(pool_period)
        except KeyboardInterrupt:
            return
        finally:
            self.close()

    def close(self) -> None:
        """Listen no more; a later step begins where the last one stopped."""
        seam.run(self._end)

    def monitor_step(self, timeout: float = 0.0) -> int:
        """Process what has ended since the last step, or in so many seconds; how many tasks."""
        found = seam.run(lambda api: self._next(api, timeout))
        for event, seen in found:
            if seen is not None:
                self.process_task(Task(seen["id"], seen["name"]))
            seam.run(partial(self._done, event))
        return sum(seen is not None for _, seen in found)

    async def _next(self, api: Api, timeout: float) -> list[tuple[Event, dict[str, Any] | None]]:
        feed = await self._opened(api)
        events = await feed.next(timeout)
        kinds = {e.id: kind_of(e) for e in events}
        ids = sorted({e.run_id for e in events if kinds[e.id] and e.run_id})
        runs = {run.id: describe(api, run) for run in await finding.by_runs(api, ids)}
        wanted = self.get_query_parameters()
        found: list[tuple[Event, dict[str, Any] | None]] = []
        for event in events:
            seen = runs.get(event.run_id or "")
            kind = kinds[event.id]
            fits = seen is not None and kind is not None and self._fits(kind, seen, wanted)
            found.append((event, seen if fits else None))
        return found

    def _fits(self, kind: str, seen: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        project, statuses = str(seen["project"] or ""), wanted.get("status") or OF_TASKS
        if kind not in {status_word(s) for s in statuses}:
            return False
        if (self._projects or self._projects_like) and not (
            project in self._projects or any(p.search(project) for p in self._projects_like)
        ):
            return False
        if self._names_like is not None and not self._names_like.search(seen["name"]):
            return False
        tags = wanted.get("tags") or ()
        if tags and not set(tags) & set(seen["tags"]):
            return False
        return wanted.get("user") in {None, seen["user"]}

    async def _opened(self, api: Api) -> Feed:
        if self._feed is None:
            self._keepsake = Keepsake(api, _KIND, self.name)
            data = await self._keepsake.read()
            cursor = Cursor.parse(data["cursor"]) if data else Cursor(api.clock.now())
            self._feed = Feed(api, names_of([*OF_TASKS, LOST]), cursor)
            self._listening = asyncio.create_task(self._feed.listen())
            if data is None:
                await self._keepsake.write({"cursor": cursor.dump()})
        return self._feed

    async def _done(self, event: Event, api: Api) -> None:
        assert self._feed is not None
        assert self._keepsake is not None
        self._feed.cursor.deal_with([event])
        await self._keepsake.write({"cursor": self._feed.cursor.dump()})

    async def _end(self, api: Api) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        self._feed = self._listening = None


class SlackMonitor:
    """Tells a Slack channel what becomes of tasks; `settings` are those of the application.

    `token` is a bot's; without one it is that of the Secret block `token_block`.
    """

    def __init__(
        self,
        channel: str,
        *,
        token: str | None = None,
        name: str = "slack-monitor",
        **settings: Any,
    ) -> None:
        from pydantic import ValidationError

        from clearflow.apps.slack import SlackMonitorSettings

        self.name, self._token = name, token
        try:
            self.settings = SlackMonitorSettings(channel=channel, **settings)
        except ValidationError as error:
            raise Usage(_first(error)) from None

    def monitor(self) -> None:
        """Watch and tell, until Ctrl-C."""
        from clearflow.apps.slack import watch

        def say(text: str) -> None:
            print(text, flush=True)

        try:
            seam.run(lambda api: watch(api, self.name, self.settings, say, self._token))
        except KeyboardInterrupt:
            return

    def start_remotely(self, queue: str = "services", project: str = "Monitoring") -> Task:
        """Have an agent of this queue do it: the application `slack-monitor`."""
        from clearflow.apps.running import launch
        from clearflow.capture.owner import owner

        if self._token is not None:
            raise Usage(
                "a token does not travel",
                hint="keep it in a Secret block, and name that: token_block='slack-token'",
            )
        parameters = self.settings.model_dump()
        made = seam.run(
            lambda api: launch(
                api,
                "slack-monitor",
                parameters,
                name=self.name,
                project=project,
                queue=queue,
                by=owner(),
            )
        )
        assert made.run is not None
        return Task(made.run.task_id, made.run.name)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise Usage(f"{text!r} is not a regular expression: {error}") from None


def _first(error: Any) -> str:
    """The first of what pydantic complains about, in a line."""
    said = error.errors()[0]
    where = ".".join(str(each) for each in said["loc"])
    return f"{where}: {said['msg']}" if where else str(said["msg"])
