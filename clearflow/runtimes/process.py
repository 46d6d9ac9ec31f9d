"""Processes of this machine: a task's whole tree, found by its claim, and ended.

Every process of a task carries the claim's token in its environment, so a child that forked
twice, or started a session of its own, is still found (Linux: `/proc`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

CLAIM = "CLEARFLOW_CLAIM"
UNMARKED = "-" * 12  # as long as a token

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NAME = 1, 36, 15


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; at once if it has ended already."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none is out of reach."""
    _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_title(title: str) -> None:
    """The name of this process in `ps` and `top` (15 bytes)."""
    _libc().prctl(_PR_SET_NAME, title.encode()[:15], 0, 0, 0)


def mark(token: str) -> None:
    """Carry a claim's token where `/proc` shows the environment this process started with.

    A forked process shows what its ancestor was started with, so launchers are started with
    UNMARKED and their children write over it; the room is theirs and just as long.
    """
    os.environ[CLAIM] = token
    # Fields 50 and 51, counted after the name, which is the second and may hold spaces.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    if not 0 < start < end:
        return
    at = ctypes.string_at(start, end - start).find(f"{CLAIM}={UNMARKED}\0".encode())
    if at >= 0 and len(token) == len(UNMARKED):
        where = start + at + len(CLAIM) + 1
        ctypes.memmove(where, token.encode(), len(token))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def of_claim(token: str) -> list[int]:
    """The processes of this machine that carry a claim's token, zombies not among them."""
    marker = f"{CLAIM}={token}".encode()
    return [pid for pid, environ in _environs() if marker in environ.split(b"\0")]


def _environs() -> Iterator[tuple[int, bytes]]:
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        # Gone, or another user's: not ours to see.
        with contextlib.suppress(OSError):
            environ = Path(f"/proc/{entry}/environ").read_bytes()
            if environ:
                yield int(entry), environ


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name may hold spaces and parentheses: what follows the last `)` is regular.
            stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if stat[0] != "Z":
                parents.setdefault(int(stat[1]), []).append(int(entry))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in parents.get(parent, ())]
        found += level
    return found


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_group(pid: int, number: int) -> None:
    """A signal to a process group, as Ctrl-C in a terminal sends it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def freeze(token: str, frozen: bool) -> None:
    """Stop every process of a claim where it is, or let them go on."""
    send(of_claim(token), signal.SIGSTOP if frozen else signal.SIGCONT)


def kill_claim(token: str) -> None:
    """End every process of a claim; returns when they are gone."""
    _end(lambda: of_claim(token))


def kill_descendants(pid: int) -> None:
    """End the children of a process, their children, and so on; returns when they are gone."""
    _end(lambda: descendants(pid))


def _end(find: Callable[[], list[int]], patience: float = 10.0) -> None:
    """Kill what is found until nothing is. A process that the kernel holds is not waited for."""
    deadline = time.monotonic() + patience
    pause = 0.001
    while pids := find():
        # Stopped first, so that none forks away while the list is worked through.
        send(pids, signal.SIGSTOP)
        send(pids, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        # One with much memory takes a moment to go.
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def reap(own: Collection[int]) -> None:
    """Let adopted processes that have ended go; `own` are waited for by somebody else."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory since it started."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
