"""Flows that are hard to end."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from prefect import flow, task


def _record(folder: str, name: str) -> None:
    (Path(folder) / f"{name}.pid").write_text(str(os.getpid()))


def _live_on(folder: str, name: str, deaf: bool, told: int | None = None) -> None:
    if deaf:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    _record(folder, name)
    if told is not None:
        os.close(told)
    threading.Event().wait()


def _forked(act: Callable[[], None]) -> None:
    if os.fork() == 0:
        try:
            act()
        finally:
            os._exit(0)


@flow
def family(folder: str, deaf: bool = True) -> None:
    """Starts processes in every way there is to get away, and none of them listens."""

    def daemon() -> None:
        os.setsid()
        _forked(lambda: _live_on(folder, "daemon", deaf))

    def nested() -> None:
        _forked(lambda: _forked(lambda: _live_on(folder, "nested", deaf)))

    _forked(lambda: _live_on(folder, "child", deaf))
    _forked(daemon)
    _forked(nested)
    # One without this process's environment, in a session of its own.
    code = (
        "import os, signal, threading, sys;"
        "[signal.signal(n, signal.SIG_IGN) for n in (2, 15)];"
        "open(sys.argv[1], 'w').write(str(os.getpid())); threading.Event().wait()"
    )
    subprocess.Popen(
        [sys.executable, "-c", code, f"{folder}/bare.pid"], env={}, start_new_session=True
    )
    _live_on(folder, "self", deaf)


@flow
def leaves_children(folder: str) -> None:
    """Ends at once; what it started does not."""

    lives, told = os.pipe()

    def daemon() -> None:
        os.setsid()
        _live_on(folder, "daemon", True, told)

    _forked(daemon)
    os.close(told)
    os.read(lives, 1)


def _note(flow: object, flow_run: object, state: object) -> None:
    print("hook", getattr(flow_run, "name", ""))
    parameters = getattr(flow_run, "parameters", {})
    name = getattr(state, "name", "")
    Path(parameters["folder"], "hook").write_text(str(name))


def _see(folder: str, error: BaseException) -> None:
    Path(folder, "seen").write_text(type(error).__name__)


@flow(on_cancellation=[_note])
def cleans_up(folder: str) -> None:
    _record(folder, "self")
    try:
        threading.Event().wait()
    except BaseException as error:
        _see(folder, error)
        raise
    finally:
        print("cleaned up")


@flow(on_cancellation=[_note])
async def cleans_up_async(folder: str) -> None:
    _record(folder, "self")
    try:
        await asyncio.Event().wait()
    except BaseException as error:
        _see(folder, error)
        raise


@flow
def swallows(folder: str) -> str:
    """Is told to end, and returns as if nothing had been said."""
    try:
        _record(folder, "self")
        threading.Event().wait()
    except BaseException:
        print("so what")
    return "done"


@task
def long_task(folder: str) -> None:
    _record(folder, "self")
    threading.Event().wait()


@flow
def in_a_task(folder: str) -> None:
    long_task(folder)


@flow
def in_threads(folder: str) -> None:
    for future in [long_task.submit(folder) for _ in range(2)]:
        future.result()


@flow
def waits_for_a_child(folder: str) -> None:
    _record(folder, "self")
    subprocess.run(["sleep", "600"], check=True)


@flow
def starts(folder: str) -> None:
    """Tells that user code has run."""
    _record(folder, "self")
