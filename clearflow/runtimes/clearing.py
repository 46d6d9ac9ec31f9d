"""What is left of a claim whose supervisor has died, ended before the task may start again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from clearflow.runtimes import docker, process
from clearflow.runtimes.docker import Engine, NoDocker
from clearflow.runtimes.rundir import Job

DOCKER, PROCESS = "docker", "process"


async def clear(job: Job) -> None:
    """End everything of a claim; returns when it is gone.

    A container whose Engine does not answer is not removed here: its tether has ended it with its
    supervisor, and the Engine removes it when it is back.
    """
    process.kill_claim(job.token)
    if job.runtime == DOCKER:
        await asyncio.to_thread(_remove_claim, job.token)


def _remove_claim(token: str) -> None:
    try:
        engine = Engine()
        try:
            engine.remove_claim(token)
        finally:
            engine.close()
    except NoDocker:
        return


async def clear_left(agent: str, home: Path, alive: Collection[str]) -> list[str]:
    """Remove the containers that an agent of this name has left here; their claims.

    Raises NoDocker.
    """

    def remove() -> list[str]:
        engine = docker.Engine()
        try:
            return engine.remove_left(agent, home, alive)
        finally:
            engine.close()

    return await asyncio.to_thread(remove)
