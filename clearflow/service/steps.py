"""What happens to the steps of a pipeline, as its controller hears of it.

    events of Prefect with the tag of the pipeline ─ look at those runs ─ a line in the log

The log only grows. The controller says how much of it it knows, and waits for more: so it asks
for nothing twice, and misses nothing between two questions.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from weakref import WeakKeyDictionary

from clearflow._prefect import events, runs
from clearflow._prefect.events import CONNECTED
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError
from clearflow.tasks.steps import TRY, mark, steps
from clearflow.words.models import Run
from clearflow.words.names import STEP

# Events come before the commit.
_AGAIN = (0.0, 0.03, 0.1, 0.5, 2.0)
_SLOW = 30.0  # seconds between two looks at all of them, should events be missed
GONE = "deleted"


def seen(api: Api, run: Run) -> dict[str, Any]:
    """A step as its controller hears of it."""
    now = api.clock.now()
    ran = (now - run.started).total_seconds() if run.started else 0.0
    return {
        "id": run.task_id,
        "step": run.labels.get(STEP) or run.name,
        "try": int(run.labels.get(TRY) or 1),
        "status": run.status(now),
        "reason": run.note.text,
        "node": f"flow_run:{run.id}",
        "ran": max(ran, 0.0),
        "url": api.connection.run_url(run.id),
    }


class Watch:
    """The steps of one pipeline, by the task id of its controller."""

    def __init__(self, api: Api, pipeline: str) -> None:
        self._api, self._pipeline = api, pipeline
        self._known: dict[str, dict[str, Any]] = {}
        self._tasks: dict[str, str] = {}  # the task of each run
        self.log: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._dirty: dict[str, int] = {}
        self._everything = True
        self._wake = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        if not self._running:
            work = (self._listen(), self._look())
            self._running = [asyncio.create_task(each) for each in work]

    def end(self) -> None:
        for task in self._running:
            task.cancel()
        self._running = []

    async def changes(self, after: int, timeout: float) -> dict[str, Any]:
        """What there is behind the first `after` lines of the log, once there is something."""
        self.begin()
        # Another supervisor has its own log: its controller hears everything.
        after = after if after <= len(self.log) else 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: len(self.log) > after)
        return {"next": len(self.log), "changed": self.log[after:]}

    async def _listen(self) -> None:
        resources = [f"prefect.tag.{mark(self._pipeline)}"]
        async for event in events.stream(self._api.connection, resources, [f"{events.FLOW_RUN}*"]):
            if event is CONNECTED:
                self._everything = True
            elif event.run_id is not None:
                self._dirty[event.run_id] = 0
            self._wake.set()

    async def _look(self) -> None:
        while True:
            pause = _SLOW
            if self._dirty:
                pause = _AGAIN[min(self._dirty.values())]
            if not self._everything:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
            self._wake.clear()
            # The server may be away; it is asked again.
            with contextlib.suppress(ClearflowError):
                if self._everything or not self._dirty:
                    self._everything = False
                    await self._look_at_all()
                else:
                    await self._look_at(dict(self._dirty))

    async def _look_at_all(self) -> None:
        try:
            found = await steps(self._api, self._pipeline)
        except ClearflowError:
            self._everything = True
            raise
        lines = [seen(self._api, run) for run in found.values()]
        for run in found.values():
            self._tasks[run.id] = run.task_id
        for task, known in self._known.items():
            if task not in found and known["status"] != GONE:
                lines.append({**known, "status": GONE, "reason": "it was deleted"})
        await self._tell(lines)

    async def _look_at(self, dirty: dict[str, int]) -> None:
        ids = list(dirty)
        found: list[Run] = []
        for start in range(0, len(ids), runs.PAGE):
            where = {"id": {"any_": ids[start : start + runs.PAGE]}}
            found += [run async for run in runs.find(self._api, where)]
        changed = await self._tell([seen(self._api, run) for run in found])
        for run in found:
            self._tasks[run.id] = run.task_id
            if run.task_id in changed and run.state is not None and run.state.final:
                self._dirty.pop(run.id, None)
        for run_id, tries in dirty.items():
            if self._dirty.get(run_id) != tries:
                continue  # it is done, or there is news of it
            if tries + 1 < len(_AGAIN):
                self._dirty[run_id] = tries + 1
                continue
            del self._dirty[run_id]
            if run_id in self._tasks and all(run.id != run_id for run in found):
                self._everything = True  # it has gone to another queue, or was deleted

    async def _tell(self, lines: list[dict[str, Any]]) -> set[str]:
        """Note what is new; the tasks of which something is."""
        new = [each for each in lines if self._is_new(each)]
        for each in new:
            self._known[each["id"]] = each
        if new:
            async with self._changed:
                self.log += new
                self._changed.notify_all()
        return {each["id"] for each in new}

    def _is_new(self, line: dict[str, Any]) -> bool:
        known = self._known.get(line["id"])
        return known is None or known["status"] != line["status"]


_watches: WeakKeyDictionary[Api, dict[str, Watch]] = WeakKeyDictionary()


def watch(api: Api, pipeline: str) -> Watch:
    """The one that watches this pipeline in this process."""
    return _watches.setdefault(api, {}).setdefault(pipeline, Watch(api, pipeline))
