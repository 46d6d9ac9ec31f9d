"""Events about tasks, for triggers: what Prefect does not tell itself."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from clearflow._prefect import events
from clearflow._prefect.http import Api
from clearflow.tasks.describe import describe, name_of, tags_of
from clearflow.words.models import Run
from clearflow.words.names import OF_SEARCHES, REPORTED, REPORTS
from clearflow.words.tagging import ARCHIVED

TAGGED, UNTAGGED = "tagged", "untagged"


async def tell(
    api: Api,
    run: Run,
    what: str,
    *,
    by: str,
    changed: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
) -> None:
    """Tell that a task was tagged, untagged, published or archived; `run` is as it is now.

    `more` is further payload; the `trigger` of a metric is also a label.
    """
    asked = (more or {}).get("trigger")
    seen = describe(api, run)
    said = {
        "id": seen["id"],
        "name": seen["name"],
        "project": seen["project"],
        "tags": seen["tags"],
        "changed": sorted(changed),
        "status": seen["status"],
        "by": by,
        "task": None,
        **(more or {}),
    }
    await events.emit(
        api,
        f"clearflow.task.{what}",
        f"clearflow.task.{run.task_id}",
        labels={
            "prefect.resource.name": name_of(run),
            "clearflow.name": name_of(run),
            "clearflow.project": str(seen["project"] or ""),
            **({"clearflow.trigger": str(asked)} if asked else {}),
        },
        related={f"prefect.flow-run.{run.id}": "flow-run"},
        payload=said,
    )


async def tell_tags(api: Api, run: Run, before: Collection[str], *, by: str) -> None:
    """Tell of the tags that a task has got or lost; `before` are those that it had."""
    now = set(tags_of(run))
    if more := now - set(before):
        await tell(api, run, ARCHIVED if ARCHIVED in more else TAGGED, by=by, changed=more)
    if gone := set(before) - now:
        await tell(api, run, UNTAGGED, by=by, changed=gone)


class Reports:
    """Tells the search that a task is a trial of that it has reported something.

    At once at first, and less often as the task grows old: an event is for good to the server.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tags = [t for t in run.tags if t.startswith(OF_SEARCHES)]
        self._heard = REPORTS in run.labels
        self._began = self._next = time.monotonic()

    async def tell(self, api: Api) -> None:
        now = time.monotonic()
        if not self._heard or now < self._next:
            return
        self._next = now + min(max((now - self._began) / 20, 1.0), 30.0)
        tags = {f"prefect.tag.{tag}": "tag" for tag in self._tags}
        await events.emit(
            api,
            REPORTED,
            f"clearflow.task.{self._run.task_id}",
            related={f"prefect.flow-run.{self._run.id}": "flow-run", **tags},
        )
