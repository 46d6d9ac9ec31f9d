"""The code of a task, from another place: a repository, a branch, a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clearflow._prefect.http import Api
from clearflow.capture.git import GitFailed
from clearflow.capture.git import clone as fetch_copy
from clearflow.errors import Usage
from clearflow.tasks.packing import Order, pack
from clearflow.tasks.script import send
from clearflow.words import scripts
from clearflow.words.scripts import Script


@dataclass(frozen=True, slots=True)
class Origin:
    """Where code comes from: what is not named is as the task has it, or the latest."""

    repository: str | None = None
    branch: str | None = None
    commit: str | None = None


async def taken_from(api: Api, job: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """Job variables with the code of another place; file, folder and function stay.

    Raises Usage for a task that is no script, one that names no repository, and for a repository,
    a branch, a commit or a file that there is not.
    """
    own = Script.of(job)
    if own is None:
        raise Usage("its code is not in a repository of its own: it is a flow")
    url = origin.repository or own.parts[0].remote
    if url is None:
        raise Usage("its code comes from no repository", hint="name one: script.repository")
    with TemporaryDirectory(prefix="clearflow-", ignore_cleanup_errors=True) as place:
        root = Path(place, "repository")
        words = {"branch": origin.branch, "commit": origin.commit}
        try:
            await asyncio.to_thread(fetch_copy, url, root, **words)
        except GitFailed as error:
            raise Usage(f"{url}: {' '.join(error.message.split())}") from None
        order = Order(
            root / own.entry,
            folder=own.folder,
            function=own.function,
            module=own.module,
        )
        if not order.file.is_file():
            raise Usage(f"{url} has no {own.entry} there")
        packed = await asyncio.to_thread(pack, order, Path(place, "snapshot"))
        sent = await send(api, packed, lambda done, total: None)
    found = Script.of(sent)
    assert found is not None
    return {**job, scripts.KEY: replace(found, paths=own.paths).dump()}
