"""Fixtures of every test.

- `server`: the Prefect server all tests share; `unique` names of pools and queues keep them apart.
- `fresh_server`: a server for one test alone, to be killed, restarted or counted on.
- `postgres_server`: the shared Prefect server on PostgreSQL; its tests get the mark `postgres`.
- `docker_engine`: a Docker Engine with a small image; its tests get the mark `docker`.
- `prefect_env`: the environment for a child process that talks to `server`.
- `clearflow_home`: a folder of its own for the clearflow processes of this test.
- `unique`: makes names no other test uses.

After each test no process it started may be left; `no_process_left` sees to that.
"""

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support.postgres import PostgresServer
from tests.support.processes import kill_leftovers, marked
from tests.support.server import QUIET, PrefectServer
from tests.support.server import template_database as cached_template

if TYPE_CHECKING:
    from tests.support.docker import DockerEngine

SESSION_ID = f"session-{uuid.uuid4().hex[:12]}"
"""Marks the processes that live as long as the whole run."""

# A busy machine is no bug: an example may take its time. The same examples every time: a change is
# judged by them, and not by luck. `EXPLORE=1` looks for others.
hypothesis.settings.register_profile(
    "clearflow", deadline=None, print_blob=True, derandomize="EXPLORE" not in os.environ
)
hypothesis.settings.load_profile("clearflow")


def pytest_configure(config: pytest.Config) -> None:
    """Cut the run off from the profile, the settings and the files of whoever starts it.

    Here and not in a fixture: Prefect reads its settings when a test module imports it.
    """
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "CLEARFLOW_")) or name == "PYTHONDONTWRITEBYTECODE":
            del os.environ[name]
    home = _short_folder()
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    # Whoever starts the run in the background has its children ignore Ctrl-C, which tests press.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(QUIET)
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    os.environ["CLEARFLOW_HOME"] = str(home / "clearflow")


def _short_folder() -> Path:
    """A temporary folder whose path is short enough for a Unix socket; pytest's may not be."""
    return Path(tempfile.mkdtemp(prefix="clearflow-"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for PostgreSQL or Docker carries its mark, so that no test can forget it."""
    for item in items:
        asked = set(getattr(item, "fixturenames", ()))
        if {"postgres", "postgres_server"} & asked:
            item.add_marker(pytest.mark.postgres)
        if "docker_engine" in asked:
            item.add_marker(pytest.mark.docker)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run on asyncio, as Prefect does."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def no_shared_process_left() -> Iterator[None]:
    """What the session-wide fixtures started must be gone at the end of the run."""
    yield
    left = kill_leftovers(SESSION_ID)
    assert not left, "left by the run:\n" + "\n".join(map(str, left))


@pytest.fixture(autouse=True)
def no_process_left(request: pytest.FixtureRequest) -> Iterator[str]:
    """Fail a test that leaves a process behind, and kill that process; gives the test's id.

    It is set up first and torn down last, so processes that other fixtures stop are not blamed.
    """
    test_id = f"test-{uuid.uuid4().hex[:12]}"
    with marked(test_id):
        yield test_id
        left = kill_leftovers(test_id)
    if left:
        pytest.fail("the test left processes behind:\n" + "\n".join(map(str, left)), pytrace=False)


@pytest.fixture(scope="session")
def template_database() -> Path:
    """A migrated SQLite database to copy; a server on a copy starts in half the time."""
    with marked(SESSION_ID):
        return cached_template()


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, template_database: Path
) -> Iterator[PrefectServer]:
    """The Prefect server all tests share: never stop it, and use `unique` names."""
    with contextlib.ExitStack() as stack:
        home = tmp_path_factory.mktemp("server")
        with marked(SESSION_ID):
            server = stack.enter_context(PrefectServer(home, template=template_database, tied=True))
        yield server


@pytest.fixture
def fresh_server(tmp_path: Path, template_database: Path) -> Iterator[PrefectServer]:
    """A running Prefect server with an empty database, for this test alone."""
    with PrefectServer(tmp_path / "server", template=template_database) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL cluster; `postgres.create_database(name)` gives an address for Prefect."""
    with contextlib.ExitStack() as stack:
        with marked(SESSION_ID):
            postgres = stack.enter_context(PostgresServer())
        yield postgres


@pytest.fixture(scope="session")
def postgres_server(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer
) -> Iterator[PrefectServer]:
    """The Prefect server on PostgreSQL that all tests with the mark `postgres` share."""
    with contextlib.ExitStack() as stack:
        with marked(SESSION_ID):
            server = PrefectServer(
                tmp_path_factory.mktemp("postgres-server"),
                database_url=postgres.create_database("prefect"),
                settings={"PREFECT_API_BLOCKS_REGISTER_ON_START": "true"},
            )
            stack.enter_context(server)
        yield server


@pytest.fixture(scope="session")
def docker_engine() -> Iterator["DockerEngine"]:
    """A Docker Engine with a small image; its tests get the mark `docker`."""
    from tests.support.docker import DockerEngine

    with contextlib.ExitStack() as stack:
        with marked(SESSION_ID):
            engine = stack.enter_context(DockerEngine())
        engine.make_image()
        yield engine


@pytest.fixture
def clearflow_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for clearflow's own files: CLEARFLOW_HOME of this process and its children."""
    home = _short_folder()
    monkeypatch.setenv("CLEARFLOW_HOME", str(home))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def prefect_env(server: PrefectServer, clearflow_home: Path, tmp_path: Path) -> dict[str, str]:
    """The whole environment for a child process that talks to the shared server.

    For a server of one's own it is `fresh_server.env()`.
    """
    return server.env(home=tmp_path / "prefect-home")


@pytest.fixture
def unique(no_process_left: str) -> Callable[[str], str]:
    """`unique("pool")` is a name that starts with `pool` and that no other test uses."""
    counter = itertools.count(1)
    return lambda name: f"{name}-{no_process_left.removeprefix('test-')}-{next(counter)}"
