"""`clearflow quickstart`: all of it, as a newcomer sees it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from clearflow._prefect import local_server
from tests.support.processes import clean_environment
from tests.support.server import PrefectServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def newcomer(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has nothing yet; temporary files are seen."""
    (tmp_path / "tmp").mkdir()
    return clean_environment(
        {
            "HOME": str(tmp_path / "home"),
            "CLEARFLOW_HOME": str(tmp_path / "home" / ".clearflow"),
            "PREFECT_HOME": str(tmp_path / "home" / ".prefect"),
            "UV_CACHE_DIR": str(Path("~/.cache/uv").expanduser()),
            "TMPDIR": str(tmp_path / "tmp"),
        }
    )


def quickstart(env: dict[str, str], *options: str) -> "subprocess.Popen[str]":
    log = Path(env["TMPDIR"]).parent / "stderr.log"
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "clearflow", "quickstart", *options],
            env=env,
            cwd=env["TMPDIR"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )


def said(env: dict[str, str]) -> str:
    return (Path(env["TMPDIR"]).parent / "stderr.log").read_text()


def left_in(env: dict[str, str]) -> list[str]:
    return [name for name in os.listdir(env["TMPDIR"]) if name.startswith("clearflow")]


def worked(env: dict[str, str], process: "subprocess.Popen[str]") -> dict:
    out, _ = process.communicate()
    assert process.returncode == 0, said(env)
    return json.loads(out)


def is_as_told(result: dict) -> None:
    """The first aborted, the last before the others, all others with an accuracy."""
    first, *others = result["trainings"]
    assert result["worked"]
    assert first["status"] == "aborted"
    assert {t["status"] for t in others} == {"completed"}
    assert all(t["accuracy"] > 0.9 for t in others)
    assert len({t["agent"] for t in result["trainings"]}) == 2


def test_on_a_machine_with_nothing(newcomer):
    result = worked(newcomer, quickstart(newcomer, "--json"))
    is_as_told(result)
    assert len(result["trainings"]) == 6
    talk = said(newcomer)
    for command in (
        "$ clearflow up ",
        "$ clearflow agent start --queue cpu",
        "$ clearflow task run digits.py --queue cpu -- --loss=",
        "$ clearflow queue move ",
        "$ clearflow task abort ",
    ):
        assert command in talk
    assert "Building the environment" in talk
    assert "| epoch " in talk, "the console is shown as it comes"
    assert "| this line is in no commit" in talk
    assert not left_in(newcomer)
    assert not Path(newcomer["PREFECT_HOME"]).exists()
    assert not Path(newcomer["CLEARFLOW_HOME"]).exists()


def test_with_a_server_that_others_use(newcomer, server: PrefectServer):
    env = newcomer | {"PREFECT_API_URL": server.url}
    result = worked(env, quickstart(env, "--json", "--trainings=4"))
    is_as_told(result)
    assert result["queue"] != "cpu", "agents of others must not take these tasks"
    queues = httpx.post(f"{server.url}/work_queues/filter", json={}).json()
    assert result["queue"] not in {queue["name"] for queue in queues}
    for training in result["trainings"]:
        run = httpx.get(f"{server.url}/flow_runs/{training['id']}").json()
        assert run["name"] == training["name"], "its runs stay to be looked at"
    assert not left_in(env)


@pytest.mark.parametrize(
    ("when", "number", "own_server"),
    [
        ("Starting a Prefect server", signal.SIGINT, True),
        ("agent start", signal.SIGTERM, True),
        ("| epoch", signal.SIGINT, False),
    ],
)
def test_interrupted_it_leaves_nothing(
    newcomer, server: PrefectServer, when: str, number: signal.Signals, own_server: bool
):
    env = newcomer if own_server else newcomer | {"PREFECT_API_URL": server.url}
    process = quickstart(env)
    wait_until(lambda: when in said(env), 200, what=f"it to say {when!r}")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130, said(env)
    assert "nothing of it is left" in said(env)
    assert not left_in(env)
    # And no process: that is looked at after every test.


def test_kept_it_can_be_used_on_and_stopped(newcomer, template_database: Path):
    # As if `clearflow up` had been here before: a new database was made in the first test.
    folder = Path(newcomer["CLEARFLOW_HOME"]) / "server"
    folder.mkdir(parents=True)
    shutil.copyfile(template_database, folder / "prefect.db")
    result = worked(newcomer, quickstart(newcomer, "--keep", "--json", "--trainings=4"))
    is_as_told(result)
    home = Path(newcomer["CLEARFLOW_HOME"])
    try:
        running = local_server.find(home / "server")
        assert running
        assert running.ui_url == result["server"]
        listed = clearflow(newcomer, "agent", "ls", "--json")
        agents = [agent["name"] for agent in json.loads(listed)]
        assert len(agents) == 2
        for name in agents:
            assert f"clearflow agent stop {name}" in said(newcomer)
            clearflow(newcomer, "agent", "stop", name)
        wait_until(
            lambda: json.loads(clearflow(newcomer, "agent", "ls", "--json")) == [],
            what="the agents to stop",
        )
    finally:
        clearflow(newcomer, "up", "--stop")
    assert local_server.find(home / "server") is None


def clearflow(env: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "clearflow", *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
