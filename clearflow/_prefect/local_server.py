"""A Prefect server of this machine: a process of its own, with its files in one folder.

    <folder>/lock          locked by the server itself for as long as it lives
    <folder>/server.json   its address and process
    <folder>/server.log    what it prints
    <folder>/prefect.db    its data, unless they are in PostgreSQL

The lock is inherited by the server, so whether one runs here is never a guess from an old process
id, and it is found again by whoever asks later.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import httpx

from clearflow.errors import ClearflowError, Refused, Usage

PORT = 4200
_LOOK_AGAIN = 0.05
# What a person has set for talking to a server says nothing about running one.
_NOT_PASSED_ON = (
    "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_HOME",
    "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "CLEARFLOW_HOME", "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip


@dataclass(frozen=True)
class LocalServer:
    """A server of this machine. `url` is its API as reached from this machine."""

    url: str
    pid: int
    host: str
    port: int
    database: str = "sqlite"
    prefect: str = ""

    @property
    def ui_url(self) -> str:
        return self.url.removesuffix("/api")


def find(folder: Path) -> LocalServer | None:
    """The server that runs in this folder."""
    if not _is_locked(folder):
        return None
    return last(folder)


def last(folder: Path) -> LocalServer | None:
    """The server that was started last in this folder, whether it runs or not."""
    try:
        data = json.loads((folder / "server.json").read_text())
        return LocalServer(**data)
    except (OSError, ValueError, TypeError):
        return None


def start(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    postgres: str | None = None,
    register_blocks: bool = True,
    timeout: float = 120.0,
    waiting: Callable[[float], None] = lambda seconds: None,
) -> LocalServer:
    """Start a server and return when it answers; `waiting` hears every moment how long it takes.

    Without a port it takes the one of last time, or 4200, or any that is free. Raises Refused
    when a server runs here already, when the port is taken, and when it was started with
    PostgreSQL last time and is not now; ClearflowError with its last words when it ends at once.
    """
    database_url = _database_url(postgres)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock(folder)
    if lock is None:
        running = last(folder)
        where = f" at {running.url}" if running else ""
        raise Refused(f"a Prefect server runs here already{where}", hint="`clearflow up --stop`")
    with lock:
        before = last(folder)
        if before and before.database != "sqlite" and database_url is None:
            raise Refused(
                "this server kept its data in PostgreSQL, and no --postgres is given now",
                hint=f"give it again; or remove {folder / 'server.json'} to start with SQLite",
            )
        port = _port(host, port, before)
        # Prefect's own block types are in the database since the first start: asking again
        # costs every start two seconds.
        known = before is not None and before.prefect == version("prefect")
        environ = _environ(folder, host, database_url, register_blocks and not known)
        # A Ctrl-C between its start and its record would leave a server that nobody can stop.
        with _signals_held():
            process = _spawn(folder, lock, host, port, environ)
            _children[process.pid] = process
            server = LocalServer(
                url=f"http://{_reached_at(host)}:{port}/api",
                pid=process.pid,
                host=host,
                port=port,
                database=(database_url or environ.get(_DATABASE, "sqlite")).partition("+")[0],
                prefect=version("prefect") if register_blocks or known else "",
            )
            _write(folder, server)
    try:
        _await_answer(server, process, folder, timeout, waiting)
    except BaseException:
        stop(folder, grace=2.0)
        process.wait()
        raise
    return server


def stop(folder: Path, grace: float = 10.0) -> LocalServer | None:
    """End the server of this folder: politely, and by force after the grace period.

    Returns the server that has ended, None when none ran.
    """
    server = find(folder)
    if server is None:
        return None
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            _reap(server.pid)
            if not _is_locked(folder):
                return server
            time.sleep(_LOOK_AGAIN)
    raise ClearflowError(f"the Prefect server (process {server.pid}) cannot be stopped")


def wait(server: LocalServer, folder: Path) -> bool:
    """Return when a server has ended: whether in order, as far as that can be seen from here."""
    while True:
        code = _reap(server.pid)
        if code is not None:
            return code in {0, -signal.SIGTERM, -signal.SIGINT}
        if not _is_locked(folder):
            return True
        time.sleep(0.25)


# A child that ends stays as a zombie until its exit is asked for.
_children: dict[int, subprocess.Popen[bytes]] = {}
_DATABASE = "PREFECT_API_DATABASE_CONNECTION_URL"


def _database_url(postgres: str | None) -> str | None:
    if postgres is None:
        return None
    scheme, mark, rest = postgres.partition("://")
    if not mark or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise Usage(
            "--postgres wants the address of a PostgreSQL database",
            hint="such as postgresql://user:password@host:5432/prefect",
        )
    return f"postgresql+asyncpg://{rest}"


def _port(host: str, asked: int | None, before: LocalServer | None) -> int:
    if asked is not None:
        if not _is_free(host, asked):
            raise Refused(
                f"port {asked} of {host} is taken", hint="leave --port out to get a free one"
            )
        return asked
    for port in (before.port if before else PORT, PORT):
        if _is_free(host, port):
            return port
    return free_port(host)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror:
            raise Usage(f"{host!r} is not an address of this machine") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise Usage(f"{host!r} is not an address of this machine") from None
            return False
        return True


def _reached_at(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", ""} else host


def _environ(
    folder: Path, host: str, database_url: str | None, register_blocks: bool
) -> dict[str, str]:
    environ = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}
    environ |= {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": str(register_blocks).lower(),
        "PREFECT_CLI_PROMPT": "false",
    }
    if host != _reached_at(host):
        # Else the UI asks for http://0.0.0.0, which other machines do not find.
        environ.setdefault("PREFECT_UI_API_URL", "/api")
    if database_url:
        environ[_DATABASE] = database_url
    return environ


def _spawn(
    folder: Path, lock: IO[bytes], host: str, port: int, environ: dict[str, str]
) -> subprocess.Popen[bytes]:
    with open(folder / "server.log", "ab") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "clearflow._prefect.server",
                "server",
                "start",
                f"--host={host}",
                f"--port={port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environ,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that come inside the block are handled after it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # they are none of this thread's business
        return
    came: list[int] = []
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, lambda number, frame: came.append(number)) for n in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _await_answer(
    server: LocalServer,
    process: subprocess.Popen[bytes],
    folder: Path,
    timeout: float,
    waiting: Callable[[float], None],
) -> None:
    started = time.monotonic()
    with httpx.Client(trust_env=False, timeout=2.0) as http:
        while (passed := time.monotonic() - started) < timeout:
            waiting(passed)
            with contextlib.suppress(httpx.TransportError):
                if http.get(f"{server.url}/health").is_success:
                    return
            if process.poll() is not None:
                raise ClearflowError(
                    f"the Prefect server ended at once: {_last_words(folder)}",
                    hint=f"all it printed is in {folder / 'server.log'}",
                )
            time.sleep(_LOOK_AGAIN)
    raise ClearflowError(
        f"the Prefect server does not answer after {timeout:g} s",
        hint=f"what it printed is in {folder / 'server.log'}",
    )


def _last_words(folder: Path) -> str:
    lines = (folder / "server.log").read_text(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else "it printed nothing"


def _write(folder: Path, server: LocalServer) -> None:
    part = folder / f".server.{secrets.token_hex(4)}"
    content: dict[str, Any] = asdict(server)
    part.write_text(json.dumps(content, indent=1))
    part.replace(folder / "server.json")


def _lock(folder: Path, tries: int = 5) -> IO[bytes] | None:
    file = open(folder / "lock", "ab")  # noqa: SIM115 - the lock lives as long as the file is open
    # Whoever looks whether a server runs holds the lock for an instant: once is not enough.
    for _ in range(tries):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        time.sleep(0.01)
    file.close()
    return None


def _is_locked(folder: Path) -> bool:
    if not (folder / "lock").exists():
        return False
    lock = _lock(folder, tries=1)
    if lock is None:
        return True
    lock.close()
    return False


def _reap(pid: int) -> int | None:
    """The exit code of a server that this process started, once it has ended."""
    child = _children.get(pid)
    return child.poll() if child else None
