"""Copies of tasks, to be changed and queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.tasks import script
from clearflow.words import lifecycle
from clearflow.words.lifecycle import Write
from clearflow.words.models import Run
from clearflow.words.names import HERE, LAUNCHED, OF_LAUNCHES, OF_STEPS, STEP
from clearflow.words.tagging import ARCHIVED, PUBLISHED


async def clone(
    api: Api,
    source: Run,
    *,
    by: str,
    name: str | None = None,
    comment: str | None = None,
    parent: str | None = None,
    project: str | None = None,
    queue: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    job_variables: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    labels: Mapping[str, Any] | None = None,
    write: Write | None = None,
    key: str | None = None,
    task_run: str | None = None,
) -> Run:
    """A task like another one, whatever that one does: a draft, unless `write` says otherwise.

    `parameters` replace all of the source's, `job_variables` those that are named; `tags` and
    `labels` are further ones. `queue` is a stored name. With a `key` the task is made once: asked
    again, the same one comes back. `task_run` is its place in the graph of a pipeline.
    """
    title = name or f"Clone of {source.labels.get('clearflow.name') or source.name}"
    about = {k: v for k, v in source.labels.items() if not k.startswith((STEP, LAUNCHED))}
    said = {**about, "clearflow.parent": parent or source.task_id, "clearflow.name": title}
    if comment is not None:
        said["clearflow.comment"] = comment
    settled = (PUBLISHED, ARCHIVED)
    old = [t for t in source.tags if t not in settled]
    others = ("task:", "user:", HERE, "auto-scheduled", *OF_STEPS, *OF_LAUNCHES)
    kept = [t for t in old if not t.startswith(others)]
    if project is not None:
        said["clearflow.project"] = project
        kept = [t for t in kept if not t.startswith("project:")] + [f"project:{project}"]
    return await runs.create(
        api,
        runs.like(source) if source.deployment_id else await script.template_of(api, source),
        write=write or lifecycle.made(by),
        name=title,
        queue=queue or source.queue,
        parameters=source.parameters if parameters is None else parameters,
        job_variables={**script.job_of(source), **(job_variables or {})},
        tags=[*dict.fromkeys([*kept, *tags]), f"user:{by}"],
        labels={**said, **(labels or {})},
        idempotency_key=key,
        task_run=task_run,
    )
