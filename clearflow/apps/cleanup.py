"""The application `cleanup`: deletes tasks that ended long ago. Schedule it, or run it by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from prefect import flow, get_run_logger
from pydantic import BaseModel, ConfigDict, Field

from clearflow._prefect import artifacts, runs
from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.tasks.describe import describe
from clearflow.tasks.find import Search, find
from clearflow.words.models import Run
from clearflow.words.tagging import ARCHIVED, PUBLISHED

Status = Literal["completed", "failed", "aborted", "crashed", "draft"]
KEPT = (PUBLISHED, ARCHIVED, "keep")
"""Tasks with these tags are never deleted."""


class CleanupSettings(BaseModel):
    """Which tasks go."""

    model_config = ConfigDict(extra="forbid")

    delete_threshold_days: float = Field(30.0, ge=0, description="Ended at least so long ago.")
    statuses: list[Status] = Field(
        default=["completed", "failed", "aborted", "crashed"], description="How they ended."
    )
    projects: list[str] = Field(default_factory=list, description="Only of these projects.")
    tags: list[str] = Field(default_factory=list, description="Only with all of these tags.")
    dry_run: bool = Field(False, description="Only say what would go.")


async def clean(
    api: Api, settings: CleanupSettings, say: Callable[[str], None], own: str | None = None
) -> int:
    """Delete them, and say which; how many. `own` is the run that does it, which stays.

    All are found before the first one goes: deleting while one turns pages skips every other page.
    """
    before = api.clock.now() - timedelta(days=settings.delete_threshold_days)
    found: list[Run] = []
    projects: list[str | None] = [*settings.projects] or [None]
    for project in projects:
        search = Search(project=project, tags=settings.tags, statuses=settings.statuses)
        async for run in find(api, search):
            ended = run.ended or run.updated or run.created
            if run.id == own or ended is None or ended > before:
                continue
            if not set(KEPT) & set(run.tags):
                found.append(run)
    for run in found:
        seen = describe(api, run)
        word = "would delete" if settings.dry_run else "deletes"
        say(f"{word} {seen['id'][:8]} {seen['project'] or '-'} · {seen['name']}: {seen['status']}")
        if not settings.dry_run:
            await runs.delete(api, run.id)
            await artifacts.delete(api, run.id)
    say(f"{len(found)} tasks" + (" would go" if settings.dry_run else " deleted"))
    return len(found)


@flow(name="clearflow-cleanup")
async def cleanup(settings: CleanupSettings | None = None) -> int:
    """Deletes tasks that ended long ago, with their results and consoles."""
    from prefect.runtime import flow_run

    async with Api(connection(), give_up_after=None) as api:
        return await clean(
            api, settings or CleanupSettings(), get_run_logger().info, own=flow_run.id
        )
