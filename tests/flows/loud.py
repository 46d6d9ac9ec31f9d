"""Flows that print, in all the ways there are."""

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

from prefect import flow, get_run_logger, task


@flow
def from_everywhere() -> None:
    print("from print")
    os.write(1, b"from a file descriptor\n")
    subprocess.run(["/bin/sh", "-c", "echo from a child; echo its errors >&2"], check=True)
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    libc.fflush(None)
    print("from stderr", file=sys.stderr)
    get_run_logger().info("from the logger")
    in_a_task()
    os.write(2, b"without an end")


@task
def in_a_task() -> None:
    get_run_logger().warning("from a task's logger")


@flow
def progress() -> None:
    for percent in range(0, 101, 5):
        print(f"\r{percent:3d} %", end="", flush=True)
    print()
    print("windows\r")
    print("over\rwritten\r\n", end="")
    print("ende")


@flow
def tells(name: str) -> None:
    value = os.environ[name]
    print("the value is", value)
    get_run_logger().info("logged: %s", value)
    os.write(1, b"x" * 16_380 + value.encode() + b"y" * 100_000 + value.encode() + b"\n")


@flow
def in_turn(pairs: int = 300) -> None:
    logger = get_run_logger()
    for n in range(pairs):
        print(f"line {2 * n}")
        logger.info("line %d", 2 * n + 1)


@flow
def many_threads(lines: int = 300) -> None:
    def talk(name: str) -> None:
        for n in range(lines):
            os.write(1, f"{name} {n}\n".encode())

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@flow
def floods(megabytes: int, gate: str | None = None, line: int = 1000) -> None:
    """Prints so much, then waits at `gate`."""
    block = b"".join(b"%08d%s\n" % (n, b"." * (line - 9)) for n in range(1_000_000 // line))
    for n in range(megabytes):
        os.write(1, block.replace(b".", b"%d" % (n % 10), 1))
    print("all is said", flush=True)
    if gate:
        Path(gate).read_bytes()


@flow
def strange() -> None:
    """Bytes that are no text, lines without an end, and lines that are too long."""
    os.write(1, b"latin \xe4\xf6\xfc\n")
    os.write(1, b"nul \0 escape \x1b[31mred\x1b[0m\n")
    os.write(1, "ü😀".encode()[:3] + b"\n")
    for _ in range(30):
        os.write(1, b"z" * 10_000)
    os.write(1, b"\nlast\n")
