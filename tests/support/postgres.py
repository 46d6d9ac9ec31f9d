"""A real PostgreSQL server, fast and forgetful, in a folder of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support.processes import clean_environment
from tests.support.server import free_port
from tests.support.waiting import wait_until

_USER = "prefect"


class PostgresServer:
    """One PostgreSQL cluster with durability switched off.

    It listens on a free port of the loopback interface and on a socket in its folder, and trusts
    whoever connects. PostgreSQL refuses to run as root, so under root it runs as `postgres`.
    """

    def __init__(self) -> None:
        self.port = free_port()
        # Not below pytest's folder: that one is closed to the user `postgres`, and its path may be
        # too long for a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="clearflow-pg-"))
        self.log = self.folder / "server.log"
        self._programs = _programs()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The address of one database, as Prefect's setting wants it."""
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database, maybe as a copy of another, and return its address.

        Nobody may be connected to `template` meanwhile.
        """
        statement = f'CREATE DATABASE "{name}" TEMPLATE "{template}"'
        self._run(
            "psql",
            "-qX",
            "-h",
            str(self.folder),
            "-p",
            str(self.port),
            "-U",
            _USER,
            "-d",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
        )
        return self.url(name)

    def start(self) -> None:
        """Make the cluster on the first call, and return when it takes connections."""
        data = self.folder / "data"
        if not data.exists():
            if os.geteuid() == 0:
                shutil.chown(self.folder, "postgres", "postgres")
            self._run(
                "initdb",
                "-D",
                str(data),
                "-U",
                _USER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            )
        with self.log.open("ab") as console:
            self._process = subprocess.Popen(
                self._command(
                    "postgres",
                    "-D",
                    str(data),
                    "-p",
                    str(self.port),
                    "-k",
                    str(self.folder),
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "max_connections=200",
                    "-c",
                    "fsync=off",
                    "-c",
                    "synchronous_commit=off",
                    "-c",
                    "full_page_writes=off",
                ),
                cwd="/",
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._answers, timeout=30, what="PostgreSQL to take connections")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut down, closing the connections there still are."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self.kill()

    def kill(self) -> None:
        """Kill all of its processes at once; the data stays for the next `start`."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def __enter__(self) -> "PostgresServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            tail = self.log.read_text(errors="replace")[-4000:]
            raise AssertionError(f"PostgreSQL ended with code {code}:\n{tail}")
        ready = subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)],
            check=False,
        )
        return ready.returncode == 0

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() != 0:
            return command
        group = pwd.getpwnam("postgres").pw_gid
        return ["setpriv", "--reuid=postgres", f"--regid={group}", "--init-groups", *command]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments),
            cwd="/",
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"{program} failed:\n{done.stdout}")


def _programs() -> Path:
    """The folder with the server programs; Debian keeps it off the path."""
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    if not versions:
        raise FileNotFoundError("no PostgreSQL server here; on Debian: apt-get install postgresql")
    return versions[0].parent
