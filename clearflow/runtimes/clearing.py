"""What is left of a claim whose supervisor has died, ended before the task may start again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from clearflow.errors import ClearflowError
from clearflow.runtimes import process
from clearflow.runtimes.docker import Engine, NoDocker
from clearflow.runtimes.rundir import Job

_AGAIN = 1.0  # seconds until the Engine is asked again to remove what it could not

DOCKER, PROCESS = "docker", "process"


async def clear(job: Job) -> None:
    """End everything of a claim; returns when it is gone, however long that takes.

    A container whose Engine does not answer is not removed here: its tether has ended it with its
    supervisor, and the Engine removes it when it is back.
    """
    process.kill_claim(job.token)
    while job.runtime == DOCKER:
        try:
            return await asyncio.to_thread(_remove_claim, job.token)
        except NoDocker:
            return
        except ClearflowError:
            await asyncio.sleep(_AGAIN)


def _remove_claim(token: str) -> None:
    engine = Engine()
    try:
        engine.remove_claim(token)
    finally:
        engine.close()


async def clear_left(agent: str, home: Path, alive: Collection[str]) -> list[str]:
    """Remove the containers that an agent of this name has left here; their claims.

    Raises NoDocker.
    """

    def remove() -> list[str]:
        engine = Engine()
        try:
            return engine.remove_left(agent, home, alive)
        finally:
            engine.close()

    return await asyncio.to_thread(remove)
