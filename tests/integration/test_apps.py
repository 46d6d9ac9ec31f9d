"""Applications: launched by the command line, run by an agent of the services queue."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clearflow._prefect import runs
from clearflow.words.lifecycle import Write
from clearflow.words.models import FAILED
from clearflow.words.names import tags
from clearflow.words.notes import Note
from tests.support.agents import Client, Site, client, opened
from tests.support.processes import marked
from tests.support.server import PrefectServer
from tests.support.slack import TOKEN, FakeSlack, fake_slack
from tests.support.waiting import wait_until_async


@pytest.fixture(scope="module")
def block(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a Secret block with the token."""
    name = "slack-token-of-test-apps"
    program = (
        "import sys\nfrom prefect.blocks.system import Secret\n"
        f"Secret(value=sys.stdin.read()).save({name!r}, overwrite=True)"
    )
    env = server.env(home=tmp_path_factory.mktemp("block"))
    subprocess.run([sys.executable, "-c", program], env=env, input=TOKEN, text=True, check=True)
    return name


@pytest.fixture(scope="module")
def services(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A pool whose queue `services` is served as an MLOps engineer has it."""
    folder = tmp_path_factory.mktemp("services")
    with marked("module-apps"):
        env = server.env(home=folder / "prefect-home") | {"CLEARFLOW_POOL": "pool-of-apps"}
        with opened(server.url, env, folder, "pool-of-apps") as site:
            site.agent("services", slots=4)
            yield site


def app(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clearflow", *words],
        env=dict(site.env),
        capture_output=True,
        text=True,
        check=False,
    )


async def failed_task(ask: Client, project: str, name: str) -> str:
    deployment = await ask.deploy("endings.py:completes", "q")
    run = await runs.create(
        ask.api,
        deployment,
        write=Write("PAUSED", "Draft", Note("made")),
        name=name,
        tags=tags(project, "alice"),
    )
    await runs.propose(ask.api, run.id, Write(FAILED, "Failed", Note("exit code 1"), force=True))
    return run.id


@pytest.mark.timeout(400)
async def test_a_slack_monitor_and_a_cleanup_are_launched_seen_and_stopped(
    services: Site, block: str, unique: Callable[[str], str], tmp_path: Path
):
    project, name = unique("Alice"), unique("monitor")
    with fake_slack() as slack:
        async with client(services) as ask:
            await launched(ask, services, slack, block, project, name)
            await applied(services, slack, block, project, name, tmp_path)
            task = await failed_task(ask, project, "old")
            words = ["-s", f"projects={json.dumps([project])}", "-s", "delete_threshold_days=0"]
            clean = unique("clean")
            done = app(services, "app", "launch", "cleanup", "--name", clean, *words, "--json")
            assert done.returncode == 0, done.stderr
            ended = await ask.ended(json.loads(done.stdout)["task"])
            assert ended.state is not None
            assert ended.state.type == "COMPLETED", await ask.report(ended.id)
            found = await ask.api.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [task]}}})
            assert found == [], await ask.report(ended.id)
            assert app(services, "app", "rm", name, "--yes").returncode == 0
            assert app(services, "app", "logs", name).returncode == 3


async def launched(
    ask: Client, site: Site, slack: FakeSlack, block: str, project: str, name: str
) -> None:
    settings = ["-s", f"api_url={slack.url}", "-s", f"projects={json.dumps([project])}"]
    settings += ["-s", f"token_block={block}", "-s", "channel=#training"]
    start = ["app", "launch", "slack-monitor", "--name", name]
    done = app(site, *start, *settings, "--json")
    assert done.returncode == 0, done.stderr
    again = app(site, *start, *settings)
    assert again.returncode == 5, again.stderr
    assert "runs already" in again.stderr

    await ask.until_printed(json.loads(done.stdout)["task"], "tells #training")
    assert "tells #training" in app(site, "app", "logs", name).stdout
    await failed_task(ask, project, "bad")

    async def told() -> bool:
        return len(slack.messages) == 1

    await wait_until_async(told, 60, what="the message")
    assert f"{project} · bad: failed" in slack.messages[0]["text"]
    (row,) = (
        r
        for r in json.loads(app(site, "app", "ls", "--json").stdout)["launched"]
        if r["name"] == name
    )
    assert (row["app"], row["status"]) == ("slack-monitor", "running")
    assert TOKEN not in json.dumps(row)


async def applied(
    site: Site, slack: FakeSlack, block: str, project: str, name: str, folder: Path
) -> None:
    """As a file lists it: unchanged where it is so already, started anew where it is not."""
    settings = {"channel": "#training", "token_block": block, "api_url": slack.url}
    file = folder / "apps.yaml"
    item = {"app": "slack-monitor", "name": name, "settings": settings | {"projects": [project]}}
    file.write_text(json.dumps([item]))
    done = app(site, "app", "apply", str(file), "--json")
    assert json.loads(done.stdout) == [{"name": name, "done": "unchanged"}], done.stderr
    item["settings"] = settings | {"projects": [project], "channel": "#ops"}
    file.write_text(json.dumps([item]))
    done = app(site, "app", "apply", str(file), "--json")
    assert json.loads(done.stdout) == [{"name": name, "done": "changed"}], done.stderr
    stopped = app(site, "app", "stop", name)
    assert stopped.returncode == 0, stopped.stderr
    assert "aborted" in stopped.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["app", "launch", "coffee"], 3, "there is no application 'coffee'"),
        (["app", "launch", "slack-monitor", "-s", "chanel=#x"], 2, "slack-monitor: chanel"),
        (["app", "launch", "slack-monitor"], 2, "needs somebody to tell"),
        (["app", "launch", "cleanup", "-q", "nowhere"], 3, "there is no queue 'nowhere'"),
        (["app", "stop", "nobody"], 3, "no application 'nobody' has been launched"),
        (["monitor", "slack", "--channel", "#x", "--token-block", "none"], 3, "'none'"),
        (["monitor", "slack", "--also", "email/none"], 3, "there is no block 'email/none'"),
    ],
)
def test_bad_input_is_one_line(services: Site, words: list[str], code: int, said: str):
    done = app(services, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
