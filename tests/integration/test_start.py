"""`clearflow init` and `clearflow up` as a person types them, in processes of their own."""

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from clearflow._prefect import local_server
from clearflow._prefect.setting_up import api_url
from clearflow.errors import Refused, Usage
from tests.support.processes import clean_environment
from tests.support.server import PrefectServer, free_port
from tests.support.waiting import wait_until

TEAM = '# mine\nactive = "team"\n\n[profiles.team]\nPREFECT_API_URL = "https://p.example.org/api"\n'


class Person:
    """Somebody with a home of their own, who types commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.profiles_file = home / "prefect" / "profiles.toml"
        self.env = clean_environment(
            {
                "CLEARFLOW_HOME": str(home / "clearflow"),
                "PREFECT_HOME": str(home / "prefect"),
                "DO_NOT_TRACK": "1",
                "NO_COLOR": "1",
            }
        )
        home.mkdir()

    def types(self, *words: str, code: int = 0, **environ: str) -> str:
        """What a command said, on both streams, when it exits with this code."""
        done = subprocess.run(
            [sys.executable, "-m", "clearflow", *words],
            env=self.env | environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def starts(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "clearflow", *words],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def has_served_before(self, database: Path) -> None:
        """A database that is migrated already: the server starts in a third of the time."""
        self.folder.mkdir(parents=True)
        shutil.copyfile(database, self.folder / "prefect.db")

    @property
    def folder(self) -> Path:
        return self.home / "clearflow" / "server"

    def profiles(self) -> dict:
        return tomllib.loads(self.profiles_file.read_text())

    def has_profiles(self, text: str) -> None:
        self.profiles_file.parent.mkdir(exist_ok=True)
        self.profiles_file.write_text(text)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    person = Person(tmp_path / "person")
    yield person
    local_server.stop(person.folder)


def test_init_writes_a_profile_and_makes_the_pool(person: Person, server: PrefectServer, unique):
    pool = unique("pool")
    said = person.types("init", "--url", server.url, CLEARFLOW_POOL=pool)
    assert "Prefect 3.8" in said
    assert "queues cpu, gpu, services" in said
    assert "clearflow agent start" in said
    assert person.profiles() == {
        "active": "clearflow",
        "profiles": {"clearflow": {"PREFECT_API_URL": server.url}},
    }
    found = httpx.post(f"{server.url}/work_pools/{pool}/queues/filter", json={}).json()
    assert {"cpu", "gpu", "services"} <= {queue["name"] for queue in found}
    assert httpx.get(f"{server.url}/work_pools/{pool}").json()["type"] == "clearflow"
    again = person.types("init", "--yes", CLEARFLOW_POOL=pool)
    assert "was there, with its queues" in again


def test_init_leaves_other_profiles_alone(person: Person, server: PrefectServer):
    person.has_profiles(TEAM)
    said = person.types("init", "--url", server.url, "--profile", "new")
    assert "`prefect profile use team` goes back" in said
    found = person.profiles()
    assert found["active"] == "new"
    assert found["profiles"]["team"] == {"PREFECT_API_URL": "https://p.example.org/api"}
    assert "# mine" in person.profiles_file.read_text()


def test_init_says_when_the_shell_overrules_the_profile(person: Person, server: PrefectServer):
    said = person.types("init", "--url", server.url, PREFECT_API_URL="http://elsewhere/api")
    assert "PREFECT_API_URL=http://elsewhere/api is set in this shell" in said


def test_init_with_the_address_of_the_ui(person: Person, server: PrefectServer):
    person.types("init", "--url", f"127.0.0.1:{server.port}/dashboard")
    assert person.profiles()["profiles"]["clearflow"]["PREFECT_API_URL"] == server.url


def test_init_without_an_address_and_nobody_to_ask(person: Person):
    assert "--url" in person.types("init", code=2)


def test_init_with_a_wrong_address(person: Person):
    person.has_profiles(TEAM)
    said = person.types("init", "--url", f"http://127.0.0.1:{free_port()}", code=4)
    assert "does not answer" in said
    assert person.profiles_file.read_text() == TEAM


def test_init_with_the_address_of_something_else(person: Person, server: PrefectServer):
    said = person.types("init", "--url", f"{server.url}/nothing", code=4)
    assert "there is no Prefect API" in said
    assert not person.profiles_file.exists()


def test_init_with_a_pool_of_another_type(person: Person, server: PrefectServer, unique):
    pool = unique("pool")
    httpx.post(f"{server.url}/work_pools/", json={"name": pool, "type": "process"})
    said = person.types("init", "--url", server.url, code=5, CLEARFLOW_POOL=pool)
    assert "is of type 'process'" in said
    assert not person.profiles_file.exists()


@pytest.fixture
def locked_server(tmp_path: Path, template_database: Path) -> Iterator[PrefectServer]:
    with PrefectServer(
        tmp_path / "locked",
        template=template_database,
        settings={"PREFECT_SERVER_API_AUTH_STRING": "admin:secret"},
    ) as server:
        yield server


def test_init_checks_the_key(person: Person, locked_server: PrefectServer):
    said = person.types("init", "--url", locked_server.url, code=5)
    assert "does not accept" in said
    said = person.types("init", "--url", locked_server.url, "--auth-string", "a:b", code=5)
    assert "does not accept" in said
    assert not person.profiles_file.exists()
    person.types("init", "--url", locked_server.url, "--auth-string", "admin:secret")
    profile = person.profiles()["profiles"]["clearflow"]
    assert profile["PREFECT_API_AUTH_STRING"] == "admin:secret"
    assert person.profiles_file.stat().st_mode & 0o077 == 0


def test_init_asks_a_person_for_the_address_and_then_for_the_key(
    person: Person, locked_server: PrefectServer
):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "clearflow", "init"],
        env=person.env,
        cwd=person.home,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = heard(ours, until="[http://127.0.0.1:4200/api]: ")
    os.write(ours, f"127.0.0.1:{locked_server.port}\n".encode())
    said += heard(ours, until="asks for a key")
    os.write(ours, b"admin:secret\n")
    said += heard(ours, until="Next: ")
    assert process.wait(20) == 0
    os.close(ours)
    assert "admin:secret" not in said
    profile = person.profiles()["profiles"]["clearflow"]
    assert profile["PREFECT_API_URL"] == locked_server.url
    assert profile["PREFECT_API_AUTH_STRING"] == "admin:secret"


def heard(terminal: int, until: str) -> str:
    said = ""

    def look() -> bool:
        nonlocal said
        if select.select([terminal], [], [], 0)[0]:
            said += os.read(terminal, 4096).decode()
        return until in said

    wait_until(look, what=f"it to say {until!r}")
    return said


def test_up_in_the_background_until_it_is_stopped(person: Person, template_database: Path):
    person.has_served_before(template_database)
    said = person.types("up", "--background", f"--port={free_port()}")
    running = local_server.find(person.folder)
    assert running
    assert running.ui_url in said
    assert person.profiles()["profiles"]["clearflow"]["PREFECT_API_URL"] == running.url
    assert person.profiles()["active"] == "clearflow"
    assert httpx.get(f"{running.url}/block_types/slug/secret").is_success

    assert "runs here already" in person.types("up")
    assert running.ui_url in person.types("up", "--stop")
    assert local_server.find(person.folder) is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url)
    assert "No server runs here" in person.types("up", "--stop")

    # The second time: at the same address, with the same data.
    said = person.types("up", "--background")
    again = local_server.find(person.folder)
    assert again
    assert again.url == running.url
    assert "was there, with its queues" in said


def test_up_leaves_a_team_profile_active(person: Person, template_database: Path):
    person.has_served_before(template_database)
    person.has_profiles(TEAM)
    process = person.starts("up")
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C stops" in line:
            break
    assert "'team' stays active" in said
    assert person.profiles()["active"] == "team"
    # The server that answers is found by others while it runs, and ends with Ctrl-C.
    assert local_server.find(person.folder)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert "its data are kept" in process.stdout.read()
    assert local_server.find(person.folder) is None
    process.stdout.close()


def test_up_interrupted_while_the_server_starts_leaves_nothing(person: Person):
    process = person.starts("up")
    wait_until(lambda: local_server.find(person.folder))
    process.terminate()
    # Interrupted at any moment of its start, it ends by the signal or by itself.
    assert process.wait(20) in {0, -2, 130}
    assert local_server.find(person.folder) is None
    assert not person.profiles_file.exists()
    assert process.stdout
    process.stdout.close()


def test_up_on_a_port_that_is_taken(person: Person, server: PrefectServer):
    said = person.types("up", "--port", str(server.port), code=5)
    assert f"port {server.port} of 127.0.0.1 is taken" in said


def test_up_with_an_address_that_is_not_of_this_machine(person: Person):
    assert "is not an address of this machine" in person.types("up", "--host=8.8.8.8", code=2)


def test_up_with_a_database_that_does_not_answer(person: Person):
    url = f"postgresql://me:pass@127.0.0.1:{free_port()}/prefect"
    said = person.types("up", "--postgres", url, code=1)
    assert "server ended at once" in said
    assert "pass" not in (person.folder / "server.json").read_text()
    assert local_server.find(person.folder) is None


def test_a_server_with_postgres_is_not_started_with_sqlite_by_mistake(tmp_path: Path):
    stopped = local_server.LocalServer("http://h/api", 1, "h", 4200, database="postgresql")
    local_server._write(tmp_path, stopped)
    with pytest.raises(Refused, match="PostgreSQL"):
        local_server.start(tmp_path)
    assert local_server.find(tmp_path) is None


def test_up_with_postgres(person: Person, postgres):
    url = postgres.create_database("up").replace("+asyncpg", "")
    said = person.types("up", "--background", f"--port={free_port()}", "--postgres", url)
    assert "SQLite" not in said
    assert not (person.folder / "prefect.db").exists()
    person.types("up", "--stop")


def test_a_server_killed_from_outside_is_not_taken_for_running(
    tmp_path: Path, template_database: Path
):
    shutil.copyfile(template_database, tmp_path / "prefect.db")
    server = local_server.start(tmp_path, port=free_port(), register_blocks=False)
    assert local_server.find(tmp_path) == server
    os.kill(server.pid, signal.SIGKILL)
    assert local_server.wait(server, tmp_path) is False
    assert local_server.find(tmp_path) is None
    assert local_server.stop(tmp_path) is None


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://h:4200", "http://h:4200/api"),
        ("h:4200/", "http://h:4200/api"),
        ("https://h/api/", "https://h/api"),
        ("http://h:4200/v2/runs/flow-run/1", "http://h:4200/api"),
        ("https://h/prefect/dashboard", "https://h/prefect/api"),
        (
            "https://app.prefect.cloud/account/0a-1/workspace/2b-3/dashboard",
            "https://api.prefect.cloud/api/accounts/0a-1/workspaces/2b-3",
        ),
    ],
)
def test_an_address_is_completed(given: str, wanted: str):
    assert api_url(given) == wanted


@pytest.mark.parametrize("given", ["", "ht tp://h", "ftp://h", "http://", "http://h:port"])
def test_what_is_no_address(given: str):
    with pytest.raises(Usage):
        api_url(given)


@pytest.mark.parametrize(
    ("version", "said"), [("2.20.1", "too old"), ("3.7.9", "too old"), ("3.99.0", "made for")]
)
def test_init_with_another_prefect(person: Person, server: PrefectServer, version: str, said: str):
    with stand_in(server, version) as url:
        code = 5 if said == "too old" else 0
        assert said in person.types("init", "--url", url, code=code)
    assert person.profiles_file.exists() == (code == 0)


@contextlib.contextmanager
def stand_in(server: PrefectServer, version: str) -> Iterator[str]:
    """The real server, behind one that says another version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/admin/version"):
                self.answer(200, json.dumps(version).encode())
            else:
                self.pass_on(None)

        def do_POST(self) -> None:
            self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

        def pass_on(self, body: bytes | None) -> None:
            headers = {"Content-Type": "application/json"}
            url = server.url.removesuffix("/api") + self.path
            answer = httpx.request(self.command, url, content=body, headers=headers)
            self.answer(answer.status_code, answer.content)

        def answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{front.server_port}/api"
        finally:
            front.shutdown()
            thread.join()
