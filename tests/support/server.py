"""A real Prefect server in a process of its own."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import clean_environment
from tests.support.waiting import wait_until

_PR_SET_PDEATHSIG = 1

_TEMPLATE_FORMAT = 1
"""Raise it when the way the template is made changes."""

# As `clearflow up` starts it: a stock server on SQLite freezes for a minute now and then.
_START = [sys.executable, "-m", "clearflow._prefect.server", "server", "start"]

QUIET: dict[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A test that forgets its server must fail, not start one of its own inside the process.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
}
"""Settings of every Prefect process of the tests."""


def free_port() -> int:
    """A port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PrefectServer:
    """Prefect's server on a free port, with a home and a database of its own.

    Without `database_url` it keeps SQLite in its home, starting from `template` when there is one.
    It listens on the same port with the same data through `kill`, `stop`, `start` and `restart`.

    Args:
        home: becomes PREFECT_HOME of the server; its console is `server.log` in there.
        template: a migrated SQLite database, copied before the first start.
        database_url: another database, such as one of `PostgresServer`.
        settings: further environment variables of the server process.
        ui: whether the server also serves Prefect's UI.
        tied: it ends with the thread that starts it, also when nobody gets to stop it.
    """

    def __init__(
        self,
        home: Path,
        *,
        template: Path | None = None,
        database_url: str | None = None,
        settings: Mapping[str, str] | None = None,
        ui: bool = False,
        tied: bool = False,
    ) -> None:
        self.home = home
        self._tied = tied
        self.port = free_port()
        self.log = home / "server.log"
        self._ui = ui
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        if database_url is None:
            database = home / "prefect.db"
            if template is not None and not database.exists():
                shutil.copyfile(template, database)
            database_url = f"sqlite+aiosqlite:///{database}"
        self.database_url = database_url

    @property
    def url(self) -> str:
        """The address of the API, as PREFECT_API_URL wants it."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def pid(self) -> int:
        """The id of the server process."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def env(self, home: Path | None = None) -> dict[str, str]:
        """The whole environment for a child that is to talk to this server.

        `home` is its PREFECT_HOME; without one it shares the folder `client` in the server's home.
        """
        return clean_environment(
            QUIET | {"PREFECT_API_URL": self.url, "PREFECT_HOME": str(home or self.home / "client")}
        )

    def calm(self) -> None:
        """Delete what goes on by itself: schedules and automations would keep it busy for ever."""
        # One that refuses closes its connection, on which the next request would be lost.
        each_its_own = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=self.url, timeout=60, limits=each_its_own) as http:
            found: list[dict[str, Any]] = []
            while page := self._deployments(http, len(found)):
                found += page
            for each in found:
                if each["schedules"]:
                    http.delete(f"/deployments/{each['id']}")
            for each in http.post("/automations/filter", json={"limit": 200}).json():
                http.delete(f"/automations/{each['id']}")

    @staticmethod
    def _deployments(http: httpx.Client, offset: int) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = http.post(
            "/deployments/filter", json={"limit": 200, "offset": offset}
        ).json()
        return page

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Point Prefect at this server for code that runs inside the test's own process."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.url}):
            yield

    def start(self, timeout: float = 180) -> None:
        """Start the process and return when the API answers."""
        if self._process is not None:
            raise RuntimeError("the server is running already")
        # The console is appended to: after a restart one wants to see what came before.
        with self.log.open("ab") as console:
            self._process = subprocess.Popen(
                [*_START, "--host", "127.0.0.1", "--port", str(self.port)],
                env=self._server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if self._tied else None,
            )
        try:
            wait_until(self._answers, timeout, what=f"the server at {self.url} to answer")
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = 20) -> None:
        """End the process the polite way, and the hard way after `timeout`."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill the process and all it started, at once (`kill -9`)."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start again: same port, same data."""
        self.stop()
        self.start()

    def __enter__(self) -> "PrefectServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _server_environment(self) -> dict[str, str]:
        settings = QUIET | {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_DATABASE_CONNECTION_URL": self.database_url,
            # The template holds them; asking again costs every start two seconds.
            "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
            "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
            # They look at all that has been, again and again: a sixth of what a shared server does.
            "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "120",
            "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
            "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "60",
            "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "60",
            "PREFECT_SERVER_UI_ENABLED": str(self._ui).lower(),
        }
        return clean_environment(settings | self._settings)

    def _answers(self) -> bool:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            tail = self.log.read_text(errors="replace")[-4000:]
            raise AssertionError(f"the server ended with code {code}:\n{tail}")
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.TransportError:
            return False


def _end_with_parent() -> None:
    """In the child: Linux is to end it when the thread that made it has ended."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def template_database() -> Path:
    """A migrated SQLite database that holds Prefect's own block types.

    Migrating takes longer than a whole start from a copy, so the file is made once per Prefect
    version and kept in the user's cache folder. Two sessions that make it at the same time both
    succeed: each moves its own complete file into place.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = cache / "clearflow-tests" / f"{version('prefect')}-{_TEMPLATE_FORMAT}" / "prefect.db"
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        home = Path(folder)
        settings = {"PREFECT_API_BLOCKS_REGISTER_ON_START": "true"}
        with PrefectServer(home / "home", settings=settings):
            pass
        fresh = home / "prefect.db"
        _copy_database(home / "home" / "prefect.db", fresh)
        fresh.replace(file)
    return file


def _copy_database(source: Path, target: Path) -> None:
    """Copy into a single file, with what is still in the write-ahead log."""
    with (
        contextlib.closing(sqlite3.connect(source)) as reader,
        contextlib.closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)
