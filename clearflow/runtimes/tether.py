"""The first process of a task's container: runs what its supervisor says, and ends with it.

    python3 tether.py SOCKET

It is the parent of everything in the container, and the line to the supervisor is its life: when
the supervisor dies, or lets go, it ends, and the kernel ends everything else in the container with
it. It runs in whatever Python 3 the image has, so it is a file of its own (3.7 or newer).

    in   {"run": [...], "folder": "..."}    {"signal": 2}
    out  {"ready": true}    {"exited": 0} or {"killed": 9}, "out_of_memory": false
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

FORWARDED = (int(signal.SIGINT), int(signal.SIGTERM))


def main(address: str) -> None:
    line = socket.socket(socket.AF_UNIX)
    line.connect(address)
    news, wake = os.pipe()
    watched: list[Any] = [line, news]
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *FORWARDED):
        signal.signal(number, lambda *_: None)
    say(line, {"ready": True})
    child: int | None = None
    words = b""
    while True:
        ready, _, _ = select.select(watched, [], [])
        if news in ready:
            for number in os.read(news, 4096):
                if number in FORWARDED:
                    send(child, number)
            child = reap(line, child)
        if line in ready:
            chunk = line.recv(65536)
            if not chunk:
                return
            *whole, words = (words + chunk).split(b"\n")
            for each in whole:
                message = json.loads(each.decode())
                if "run" in message:
                    child = run(message)
                elif "signal" in message:
                    send(child, message["signal"])


def say(line: socket.socket, message: dict[str, Any]) -> None:
    line.sendall(json.dumps(message).encode() + b"\n")


def run(message: dict[str, Any]) -> int:
    """Start a program in a session of its own; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, *FORWARDED):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(message["folder"])
        os.execvp(message["run"][0], message["run"])
    except OSError as error:
        os.write(2, "clearflow: {}: {}\n".format(message["run"][0], error).encode())
    finally:
        os._exit(127)


def send(child: int | None, number: int) -> None:
    """Ctrl-C is for the program's group, any other signal for everybody."""
    if child is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number == signal.SIGINT or os.getpid() != 1:
            os.killpg(child, number)
        else:
            os.kill(-1, number)


def reap(line: socket.socket, child: int | None) -> int | None:
    """See off whoever has ended; None for the child once it has, which the supervisor is told."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return child
        if not pid:
            return child
        if pid == child:
            child = None
            if os.WIFSIGNALED(status):
                end = {"killed": os.WTERMSIG(status), "out_of_memory": out_of_memory()}
            else:
                end = {"exited": os.WEXITSTATUS(status)}
            say(line, end)


def out_of_memory() -> bool:
    """Whether the kernel has killed something in this container for lack of memory."""
    for name in ("memory.events", "memory/memory.oom_control"):
        with contextlib.suppress(OSError), open(os.path.join("/sys/fs/cgroup", name)) as file:
            counts = dict(text.split() for text in file)
            if int(counts.get("oom_kill", 0)):
                return True
    return False


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError, FileNotFoundError):
        main(sys.argv[1])
