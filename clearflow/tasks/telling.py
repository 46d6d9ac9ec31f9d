"""Events about tasks, for triggers: what Prefect does not tell itself."""

from __future__ import annotations

from collections.abc import Collection

from clearflow._prefect import events
from clearflow._prefect.http import Api
from clearflow.tasks.describe import describe, name_of, tags_of
from clearflow.words.models import Run
from clearflow.words.tagging import ARCHIVED

TAGGED, UNTAGGED = "tagged", "untagged"


async def tell(api: Api, run: Run, what: str, *, by: str, changed: Collection[str] = ()) -> None:
    """Tell that a task was tagged, untagged, published or archived; `run` is as it is now."""
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
    }
    await events.emit(
        api,
        f"clearflow.task.{what}",
        f"clearflow.task.{run.task_id}",
        labels={
            "prefect.resource.name": name_of(run),
            "clearflow.name": name_of(run),
            "clearflow.project": str(seen["project"] or ""),
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
