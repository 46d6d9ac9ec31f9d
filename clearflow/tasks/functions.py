"""Tasks that call one function of the code that another task came with."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import Refused
from clearflow.settings import settings
from clearflow.tasks import script
from clearflow.words import lifecycle, scripts
from clearflow.words.models import Run
from clearflow.words.names import tags
from clearflow.words.scripts import Script


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a file; `file` is relative to the folder of the other task's script."""

    file: str
    name: str
    returns: Sequence[str] = ()


def job_of(task: Run, function: Function) -> dict[str, Any]:
    """The job variables of a task that calls a function of another one's code. Raises Refused."""
    job = script.job_of(task)
    own = Script.of(job)
    if own is None:
        raise Refused(
            f"the code of the task {task.name!r} was not kept: its functions cannot travel",
            hint="what its program said when it began tells why",
        )
    entry = posixpath.normpath(posixpath.join(posixpath.dirname(own.entry), function.file))
    if entry.startswith("../"):
        raise Refused(f"{function.file} lies outside of the working copy that travels")
    job.pop("max_attempts", None)
    called = replace(own, entry=entry, module="", function=function.name)
    return {**job, scripts.KEY: called.dump()}


async def draft(
    api: Api,
    task: Run,
    function: Function,
    *,
    by: str,
    name: str,
    parameters: Mapping[str, Any],
) -> Run:
    """A draft that calls a function of a task's code. Raises Refused for code that was not kept."""
    project = str(task.labels.get("clearflow.project") or task.project or "default")
    job = job_of(task, function)
    given = {scripts.ARGUMENTS: list(function.returns), **parameters}
    template = await script.template(
        api,
        project,
        name,
        job,
        pool=task.pool or settings().pool,
        queue=None,
        parameters=given,
    )
    return await runs.create(
        api,
        template,
        write=lifecycle.made(by),
        name=name,
        parameters=given,
        job_variables=job,
        tags=tags(project, by),
        labels={
            "clearflow.name": name,
            "clearflow.project": project,
            "clearflow.parent": task.task_id,
        },
    )
