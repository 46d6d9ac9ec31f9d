"""Flows that use what Prefect offers."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

from prefect import flow, get_run_logger, pause_flow_run, suspend_flow_run, task
from prefect.runtime import flow_run as this_run
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner


def _count(folder: str) -> int:
    """How often this was called for a folder."""
    with open(Path(folder, "starts"), "a+") as file:
        file.write("x")
        file.flush()
        file.seek(0)
        return len(file.read())


@flow(retries=2, retry_delay_seconds=1)
def succeeds_at_last(folder: str, times: int = 3) -> int:
    tries = _count(folder)
    print("try", tries)
    if tries < times:
        raise ValueError(f"try {tries} failed")
    return tries


@flow(retries=1, retry_delay_seconds=600)
def waits_to_retry(folder: str) -> None:
    _count(folder)
    raise ValueError("not yet")


@task
def double(x: int) -> int:
    get_run_logger().info("doubling %d", x)
    return 2 * x


@flow
def child_flow(x: int) -> int:
    print("child", x)
    return int(double(x))


@flow
def parent_flow() -> int:
    return sum(child_flow(x) for x in range(3))


@flow
def failing_child() -> None:
    raise ValueError("the child fails")


@flow
def copes_with_its_child() -> str:
    state = failing_child(return_state=True)
    return str(state.name)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=4))  # type: ignore[arg-type]
def in_threads() -> int:
    return sum(f.result() for f in double.map(range(8)))


@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
def in_processes() -> int:
    return sum(f.result() for f in double.map(range(2)))


@task
async def double_later(x: int) -> int:
    return 2 * x


@flow
async def asynchronous() -> int:
    return sum(await asyncio.gather(*(double_later(x) for x in range(4))))


@flow
def generates() -> Generator[int, None, None]:
    for n in range(3):
        print("yields", n)
        yield n


@flow
async def generates_async() -> AsyncGenerator[int, None]:
    for n in range(3):
        print("yields", n)
        yield n


def _hook(flow: object, flow_run: object, state: object) -> None:
    print("hook", getattr(state, "name", ""))


@flow(on_running=[_hook], on_completion=[_hook], on_failure=[_hook], on_crashed=[_hook])
def with_hooks(fail: bool = False) -> None:
    if fail:
        raise ValueError("as asked")


@flow
def pauses() -> str:
    print("before")
    pause_flow_run(timeout=120, poll_interval=1)
    print("after")
    return "resumed"


@flow
def asks_for_input() -> str:
    answer = pause_flow_run(wait_for_input=str, timeout=120, poll_interval=1)
    print("answer", answer)
    return str(answer)


@flow(persist_result=True)
def suspends(folder: str) -> int:
    starts = _count(folder)
    print("start", starts)
    suspend_flow_run(timeout=300)
    print("resumed at start", starts)
    return starts


@task
def step() -> None:
    return


@flow
def many_steps(folder: str) -> None:
    """Takes steps until there is a file `enough`."""
    _count(folder)
    while not Path(folder, "enough").exists():
        step()


@flow(timeout_seconds=1)
def takes_too_long() -> None:
    threading.Event().wait()


@flow
def tells_where_it_is() -> None:
    print("folder", os.getcwd())
    print("python", sys.executable)
    print("prefix", sys.prefix)
    print("run", this_run.id)
    for name in ("COLOUR", "SHAPE", "CUDA_VISIBLE_DEVICES", "CLEARFLOW_TASK_ID"):
        print(name, os.environ.get(name))
    for name in sorted(os.listdir(".")):
        print("file", name)


@flow
def uses_a_package(name: str) -> None:
    module = __import__(name)
    print("imported", module.__name__, "from", module.__file__)
