"""Flows that end in all the ways a process can end."""

import os
import signal
import sys
import threading

from prefect import flow


@flow
def completes(word: str = "hello") -> str:
    print("says", word)
    return word


@flow
def raises(words: str = "no such luck") -> None:
    raise ValueError(words)


@flow
def exits(code: int = 3) -> None:
    sys.exit(code)


@flow
async def exits_async(code: int = 3) -> None:
    sys.exit(code)


@flow
def leaves(code: int = 3) -> None:
    """Ends without a word to Python: what libraries written in C do."""
    print("leaving", flush=True)
    os._exit(code)


@flow
def kills_itself(name: str = "SIGKILL") -> None:
    os.kill(os.getpid(), signal.Signals[name])
    threading.Event().wait()


@flow
def runs_out_of_memory(group: str) -> None:
    """Moves into a memory group that is too small, and takes more than it has."""
    with open(group, "w") as file:
        file.write(str(os.getpid()))
    print(len([bytes(1_000_000) + b"x" for _ in range(500)]))


@flow
def kills_its_supervisor() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    threading.Event().wait()
