"""What this machine knows of a running task: a folder per claim.

    <home>/agents/<agent>/lock            held by the agent
    <home>/agents/<agent>/<token>/
        job.json       what to run (mode 0600)
        alive          locked by the supervisor as long as it lives
        s              the supervisor's socket, for its agent
        t              the supervisor's socket, for the task
        c              the supervisor's socket, for the first process of the task's container
        console.log    everything the task has printed
        writing        there while a state may be on its way to the server

The lock tells whether the supervisor lives, whatever happened to process ids meanwhile; the
folder goes when the task has ended and its console has been sent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from clearflow.errors import Refused
from clearflow.words.names import slug
from clearflow.words.notes import Note


@dataclass(frozen=True)
class Job:
    """Everything a supervisor needs to know about a claim.

    `note` is the claim's message, `docker` what the agent says about containers.
    """

    run_id: str
    task_id: str
    name: str
    pool: str
    queue: str
    agent: str
    note: str
    run_url: str = ""
    deployment: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    queue_limit: int | None = None
    pool_limit: int | None = None
    claimed_at: float = 0.0
    runtime: str = "process"
    docker: Mapping[str, Any] = field(default_factory=dict)

    @property
    def claim(self) -> Note:
        return Note.parse(self.note)

    @property
    def token(self) -> str:
        return self.claim.claim or ""


class RunDir:
    """The folder of one claim."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None
        self._writes = 0

    @property
    def console(self) -> Path:
        return self.path / "console.log"

    def write(self, job: Job) -> None:
        self.path.mkdir(parents=True, mode=0o700)
        text = json.dumps(asdict(job), default=str)
        part = self.path / "job.part"
        with open(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(text)
        part.rename(self.path / "job.json")

    def job(self) -> Job | None:
        """The job, or None when the folder is gone or was never complete."""
        try:
            data = json.loads((self.path / "job.json").read_text())
        except (OSError, ValueError):
            return None
        data["gpus"] = tuple(data["gpus"])
        return Job(**data)

    def lock(self) -> bool:
        """Become the supervisor of this claim, until this process ends."""
        for _ in range(20):
            self._lock = _try_lock(self.path / "alive")
            if self._lock is not None:
                return True
            # Somebody who only looks whether there is a supervisor has it for a moment.
            time.sleep(0.005)
        return False

    def let_go(self) -> None:
        """In a forked child: a lock is held as long as anybody has the file open."""
        if self._lock is not None:
            self._lock.close()

    def has_supervisor(self) -> bool:
        try:
            lock = _try_lock(self.path / "alive")
        except FileNotFoundError:
            return False
        if lock is None:
            return True
        lock.close()
        return False

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """While a state is being sent: whoever finds its sender dead gives it time to arrive."""
        mark = self.path / "writing"
        self._writes += 1
        with contextlib.suppress(OSError):
            mark.touch()
        try:
            yield
        finally:
            self._writes -= 1
            if not self._writes:
                mark.unlink(missing_ok=True)

    def died_writing(self) -> bool:
        """Whether a supervisor that is dead may have sent a state that is not there yet."""
        return (self.path / "writing").exists()

    def socket_address(self, name: str = "s") -> contextlib.AbstractContextManager[str]:
        """A name of the socket that is short enough for the kernel (108 bytes)."""
        return _short(self.path, name)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def _short(folder: Path, name: str) -> Iterator[str]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)


def _try_lock(path: Path) -> IO[bytes] | None:
    file = open(path, "ab")  # noqa: SIM115 - the lock lives as long as the file is open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            return None
        raise
    return file


def agent_folder(home: Path, agent: str) -> Path:
    return home / "agents" / slug(agent)


def rundirs(folder: Path) -> list[RunDir]:
    """The claims that an agent has left in its folder."""
    if not folder.is_dir():
        return []
    return [RunDir(p) for p in sorted(folder.iterdir()) if p.is_dir()]


def lock_agent(home: Path, agent: str) -> IO[bytes]:
    """Be the one agent of this name here. Raises Refused when there is another."""
    folder = agent_folder(home, agent)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _try_lock(folder / "lock")
    if lock is None:
        raise Refused(
            f"an agent named {agent!r} is running on this machine already",
            hint="give this one another name with --name",
        )
    return lock
