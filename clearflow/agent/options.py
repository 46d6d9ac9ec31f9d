"""How an agent is started."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from clearflow.errors import Usage
from clearflow.words.containers import Policy
from clearflow.words.models import Machine

UNLIMITED = 1000  # slots of a services agent: light controllers, bounded only by the machine


@dataclass(frozen=True)
class AgentOptions:
    """What `clearflow agent start` was told.

    `queues` in order of preference; with `fairness` in turn. `gpus` are the ids the agent may
    hand out, None for all it finds. `idle_timeout` in seconds, None to stay. `max_hours` is how
    long this machine is there: the agent is gone by then, and no task with it. With
    `own_environment` tasks run with the agent's interpreter and packages, whatever they ask for.
    `docker` is the image of scripts that name none, and None for an agent without Docker;
    `docker_allow` are patterns of images, `docker_args` arguments as of `docker run`.
    """

    pool: str = "clearflow"
    queues: tuple[str, ...] = ()
    name: str | None = None
    slots: int = 1
    gpus: tuple[str, ...] | None = None
    fairness: bool = False
    services: bool = False
    idle_timeout: float | None = None
    max_hours: float | None = None
    own_environment: bool = False
    create_queues: bool = False
    docker: str | None = None
    docker_allow: tuple[str, ...] = ()
    docker_args: str = ""

    @property
    def containers(self) -> Policy | None:
        """What it says about containers; None when it has no Docker."""
        if self.docker is None:
            return None
        return Policy(self.docker, self.docker_allow, self.docker_args)

    def machine(self) -> Machine:
        """What this agent has to give on this machine."""
        return Machine(
            slots=UNLIMITED if self.services else self.slots,
            gpus=() if self.services else _gpus(self.gpus),
            cpus=float(os.cpu_count() or 1),
            memory_mb=_memory_mb(),
            runtimes=("process",) if self.containers is None else ("docker", "process"),
            images=self.containers.patterns if self.containers else (),
        )


def _gpus(asked: tuple[str, ...] | None) -> tuple[str, ...]:
    if asked is not None and "all" not in asked:
        return asked
    found = visible_gpus()
    if asked is not None and not found:
        raise Usage(
            "--gpus all: no GPU was found on this machine (nvidia-smi names none)",
            hint="name their ids, such as --gpus 0,1, or leave it out",
        )
    return found


def visible_gpus() -> tuple[str, ...]:
    """The ids of this machine's NVIDIA GPUs, as `nvidia-smi` lists them."""
    if shutil.which("nvidia-smi") is None:
        return ()
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip())


def _memory_mb() -> int:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return pages * size // 1_000_000
