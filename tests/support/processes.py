"""Processes a test started: the mark they carry, and finding those it left behind."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import WaitedTooLong, wait_until

MARK = "CLEARFLOW_TEST_ID"
"""The environment variable that every child inherits from the test it belongs to."""

_PROC = Path("/proc")


@dataclass(frozen=True)
class Leftover:
    """A process that is still there."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.pid}: {self.command}"


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child: ours, free of Prefect and clearflow settings, plus `extra`.

    The mark and CLEARFLOW_HOME stay: the child is known to be this test's, and keeps to its folder.
    Python may write its compiled
    files: without them every interpreter of a test starts more than twice as slowly.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "CLEARFLOW_")) and name != "PYTHONDONTWRITEBYTECODE"
    }
    kept = {name: os.environ[name] for name in (MARK, "CLEARFLOW_HOME") if name in os.environ}
    return environment | kept | dict(extra or {})


@contextlib.contextmanager
def marked(test_id: str) -> Iterator[None]:
    """Mark the children started inside the block as belonging to `test_id`."""
    before = os.environ.get(MARK)
    os.environ[MARK] = test_id
    try:
        yield
    finally:
        if before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = before


def processes_of(test_id: str) -> list[Leftover]:
    """The live processes, other than this one, that carry the mark of `test_id`.

    Read from /proc; where there is none (macOS) nothing is found. A zombie has no environment and
    is not counted.
    """
    wanted = f"{MARK}={test_id}".encode()
    found: list[Leftover] = []
    for entry in _PROC.glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                found.append(Leftover(int(entry.name), command.strip()))
    return found


def kill_leftovers(test_id: str, grace: float = 3) -> list[Leftover]:
    """Give the processes of `test_id` a moment to end, kill the rest and return them."""
    with contextlib.suppress(WaitedTooLong):
        wait_until(lambda: not processes_of(test_id), timeout=grace)
    left = processes_of(test_id)

    def all_killed() -> bool:
        """Kill whoever there is, again on every look: they may be starting others."""
        remaining = processes_of(test_id)
        for process in remaining:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return not remaining

    wait_until(all_killed, what=f"the killed processes of {test_id} to go")
    return left
