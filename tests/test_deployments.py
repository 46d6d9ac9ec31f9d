"""Everything in `deployments/`: deployed on a throw-away server and run, or checked as a file."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from clearflow._prefect.events import emit
from clearflow.apps import running
from clearflow.automation.schedulers import listing
from tests.support.agents import Client, Site, client, opened
from tests.support.server import PrefectServer
from tests.support.waiting import wait_until_async

ROOT = Path(__file__).parents[1]
FILE = ROOT / "deployments" / "prefect.yaml"
FLOWS = {"scheduler": "clearflow-launch", "cleanup": "clearflow-cleanup", "retrain": "greet"}
WANTED = {d["name"]: d for d in yaml.safe_load(FILE.read_text())["deployments"]}


@pytest.fixture
def throw_away(fresh_server: PrefectServer, tmp_path: Path) -> Iterator[Site]:
    """A server of its own: `prefect.yaml` names the pool `clearflow`."""
    env = fresh_server.env(home=tmp_path / "prefect-home")
    with opened(fresh_server.url, env, tmp_path, "clearflow") as site:
        yield site


def deploy(site: Site) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "prefect",
            "--no-prompt",
            "deploy",
            "--all",
            f"--prefect-file={FILE}",
        ],
        cwd=ROOT,
        env=dict(site.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


async def run_of(ask: Client, name: str) -> str:
    flow = FLOWS.get(name, name)
    deployment = await ask.api.get(f"/deployments/name/{flow}/{name}")
    assert deployment["work_queue_name"] == WANTED[name]["work_pool"]["work_queue_name"]
    run = await ask.api.post(f"/deployments/{deployment['id']}/create_flow_run", {})
    return str(run["id"])


@pytest.mark.timeout(300)
async def test_prefect_yaml_is_deployed_and_each_of_it_runs_on_an_agent(throw_away: Site):
    deploy(throw_away)
    async with client(throw_away) as ask:
        throw_away.agent("cpu", "services", slots=2)
        # Without a Slack nothing is told, and without a task nothing is searched: they have tests
        # of their own.
        needy = {"slack-monitor", "search"}
        started = {name: await run_of(ask, name) for name in WANTED if name not in needy}
        for name, run_id in started.items():
            run = await ask.ended(run_id, timeout=180)
            assert run.state, name
            assert run.state.type == "COMPLETED", await ask.report(run_id)
        assert "Hello, clearflow!" in await ask.console(started["greet"])
        assert "3 pages, 6 words" in await ask.console(started["report"])
        assert "in an environment of my own" in "\n".join(await ask.console(started["versions"]))
        assert "nothing to do" in "\n".join(await ask.console(started["scheduler"]))
        (friday,) = await listing(ask.api, "scheduler", "Examples")
        assert (friday.name, friday.zone, friday.active) == ("friday", "Europe/Berlin", False)
        assert "0 tasks deleted" in await ask.console(started["cleanup"])
        apps = {i.name: (i.app, i.project, i.queue) for i in await running.instances(ask.api)}
        assert apps["cleanup"] == ("cleanup", "Applications", "services")
        assert apps["search"] == ("search", "Applications", "services")
        assert apps["slack-monitor"] == ("slack-monitor", "Applications", "services")
        await triggered(ask, not_this=started["report"])
        await told(ask, not_this=started["retrain"])


async def triggered(ask: Client, not_this: str) -> None:
    """The automation of `triggers:` has the report run again after a greeting."""
    deployment = await ask.api.get("/deployments/name/report/report")
    (schedule,) = (await ask.api.get("/deployments/name/greet/greet"))["schedules"]
    assert schedule["schedule"]["cron"] == "0 7 * * 1-5"
    wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}}

    async def completed() -> list[str]:
        runs = await ask.api.post("/flow_runs/filter", wanted)
        return [r["id"] for r in runs if r["id"] != not_this and r["state"]["type"] == "COMPLETED"]

    assert await wait_until_async(completed, 60, what="the triggered run to complete")


async def told(ask: Client, not_this: str) -> None:
    """The automation of `triggers:` hears of our own events: a dataset was tagged."""
    for tags in (["raw"], ["production", "raw"]):
        payload = {"name": "digits", "version": "1.0.0", "tags": tags}
        await emit(ask.api, "clearflow.dataset.tagged", "clearflow.dataset.1", payload=payload)
    deployment = await ask.api.get("/deployments/name/greet/retrain")
    wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}}

    async def completed() -> list[str]:
        runs = await ask.api.post("/flow_runs/filter", wanted)
        return [r["id"] for r in runs if r["id"] != not_this and r["state"]["type"] == "COMPLETED"]

    (run,) = await wait_until_async(completed, 60, what="the triggered run to complete")
    assert "Hello, digits 1.0.0!" in await ask.console(run)


def test_the_flows_know_nothing_of_clearflow():
    for path in (ROOT / "examples" / "flows").glob("*.py"):
        assert not re.search(r"^\s*(import|from) clearflow", path.read_text(), re.M), path


def documents() -> list[Path]:
    return [
        path
        for folder in ("deployments", "blocks")
        for path in sorted((ROOT / folder).rglob("*.y*ml"))
    ]


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_yaml_can_be_read(path: Path):
    assert all(yaml.safe_load_all(path.read_text()))


def test_the_compose_file_names_every_setting_that_several_servers_need():
    compose = yaml.safe_load((ROOT / "deployments" / "docker-compose.yaml").read_text())
    services = compose["services"]
    assert {"postgres", "redis", "migrate", "server", "background"} <= set(services)
    for name in ("server", "background"):
        settings = services[name]["environment"]
        assert settings["PREFECT_API_DATABASE_CONNECTION_URL"].startswith("postgresql+asyncpg://")
        assert {
            "PREFECT_MESSAGING_BROKER",
            "PREFECT_MESSAGING_CACHE",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE",
            "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE",
            "PREFECT_REDIS_MESSAGING_URL",
            "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL",
            "PREFECT_SERVER_DOCKET_URL",
        } <= set(settings)
        assert settings["PREFECT_API_DATABASE_MIGRATE_ON_START"] == "false"
    for service in services.values():
        for word in re.findall(r"\$\{(\w+)", yaml.safe_dump(service)):
            assert word.startswith("CLEARFLOW_"), f"{word} is explained at the top of the file"


def test_kubernetes_manifests_name_what_they_refer_to():
    found = [
        document
        for path in sorted((ROOT / "deployments" / "kubernetes").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]
    kinds = {document["kind"] for document in found}
    assert {"Deployment", "Secret"} <= kinds
    secrets = {d["metadata"]["name"] for d in found if d["kind"] == "Secret"}
    referred = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for document in found
        if document["kind"] == "Deployment"
        for container in document["spec"]["template"]["spec"]["containers"]
        for entry in container["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    assert referred == secrets


UNITS = sorted((ROOT / "deployments" / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    program = tmp_path / "clearflow"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    # Only the program is somewhere else, and an instance has a name.
    text = re.sub(r"^(ExecStart=)\S+", rf"\g<1>{program}", unit.read_text(), flags=re.M)
    copy = tmp_path / unit.name.replace("@", "@cpu")
    copy.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if unit.stem.split("@")[0] in line]
    assert not complaints


def test_an_agent_that_is_restarted_leaves_its_tasks_running():
    (unit,) = (u for u in UNITS if u.name == "clearflow-agent@.service")
    lines = unit.read_text().splitlines()
    assert "KillMode=process" in lines
    assert not [line for line in lines if line.startswith("KillSignal=SIGKILL")]


def registers(env: dict[str, str], **secrets: str) -> None:
    done = subprocess.run(
        [sys.executable, "blocks/register.py"],
        cwd=ROOT,
        env=env | secrets,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_blocks_are_registered_and_again_without_harm(server: PrefectServer, prefect_env):
    def tokens() -> list[str]:
        asked = {"include_secrets": True}
        found = httpx.post(f"{server.url}/block_documents/filter", json=asked).json()
        return [d["data"]["value"] for d in found if d["name"] == "training-token"]

    registers(prefect_env)
    assert tokens() == ["set me in the UI"]
    registers(prefect_env, TRAINING_TOKEN="t0p")
    assert tokens() == ["t0p"]
    registers(prefect_env)
    assert tokens() == ["t0p"], "without the secret at hand it stays"
    for path in (ROOT / "blocks").glob("*.yaml"):
        name = yaml.safe_load(path.read_text())["name"]
        found = httpx.post(f"{server.url}/block_documents/filter", json={}).json()
        assert [d["name"] for d in found].count(name) == 1
