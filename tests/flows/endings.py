"""Flows that end in all the ways a process can end."""

import os
import signal
import sys
import time

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
    time.sleep(60)


@flow
def sleeps(seconds: float = 60) -> None:
    print("asleep", flush=True)
    time.sleep(seconds)
    print("awake", flush=True)


@flow
def eats(megabytes: int = 200) -> None:
    """Takes memory until it is killed."""
    kept = []
    for _ in range(megabytes):
        kept.append(b"x" * 1_000_000)
