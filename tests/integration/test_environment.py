"""Environments built by the real uv from real packages."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clearflow.environment import build
from clearflow.environment.build import evict, lease, prepare
from clearflow.environment.recipe import Recipe
from clearflow.environment.shim import package_path
from clearflow.errors import EnvironmentFailed
from tests.support.processes import clean_environment
from tests.support.waiting import wait_until, wait_until_async

HOUR = 3600


def recipe(*requirements: str, python: str | None = None) -> Recipe:
    found = Recipe.of({"requirements": list(requirements), "python_version": python}, prefect=False)
    assert found is not None
    return found


def folder_of(python: Path) -> Path:
    """What belongs to the recipe of an environment."""
    return python.parent.parent.parent


def environments(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def imports(python: Path, module: str, **environ: str) -> bool:
    done = subprocess.run(
        [python, "-c", f"import {module}"],
        env=clean_environment(environ),
        cwd=python.parent,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0


async def test_an_environment_has_what_was_asked_for_and_nothing_of_the_agents(tmp_path):
    said: list[str] = []
    python = await prepare(recipe("iniconfig"), tmp_path, said.append)
    assert imports(python, "iniconfig")
    assert not imports(python, "prefect")
    assert not imports(python, "clearflow")
    assert (
        said[0]
        == "Building the environment: Python "
        + ".".join(map(str, sys.version_info[:2]))
        + ", 1 requirement"
    )
    assert any("Installed 1 package" in line for line in said)


async def test_the_second_time_nothing_is_started_and_it_costs_milliseconds(tmp_path, monkeypatch):
    first = await prepare(recipe("iniconfig"), tmp_path, lambda _: None)
    monkeypatch.setattr(
        asyncio, "create_subprocess_exec", lambda *_, **__: pytest.fail("started a process")
    )
    times = []
    for _ in range(20):
        start = time.perf_counter()
        assert await prepare(recipe("iniconfig"), tmp_path, pytest.fail) == first
        times.append(time.perf_counter() - start)
    assert sorted(times)[10] < 0.005


async def test_clearflow_alone_can_be_added(tmp_path):
    python = await prepare(recipe("iniconfig"), tmp_path, lambda _: None)
    path = package_path(tmp_path)
    assert os.listdir(path) == ["clearflow"]
    assert package_path(tmp_path) == path
    assert imports(python, "clearflow", PYTHONPATH=str(path))
    assert not imports(python, "prefect", PYTHONPATH=str(path))


async def test_a_package_that_does_not_exist(tmp_path):
    said: list[str] = []
    with pytest.raises(EnvironmentFailed) as failure:
        await prepare(recipe("iniconfig", "no-such-package-of-ours-7f3a"), tmp_path, said.append)
    assert "no-such-package-of-ours-7f3a was not found" in failure.value.message
    assert "\n" not in failure.value.message
    assert any(line.startswith("  uv: error: No solution found") for line in said)
    (folder,) = (tmp_path / "environments").iterdir()
    assert not environments(folder), "a failed build leaves nothing behind"


async def test_requirements_that_contradict_each_other(tmp_path):
    with pytest.raises(EnvironmentFailed, match="iniconfig"):
        await prepare(recipe("iniconfig<2", "iniconfig>=2"), tmp_path, lambda _: None)


async def test_a_python_that_is_not_there(tmp_path):
    with pytest.raises(EnvironmentFailed, match=r"no Python 3\.99 on this machine") as failure:
        await prepare(recipe("iniconfig", python="3.99"), tmp_path, lambda _: None)
    assert failure.value.hint
    assert "uv python install 3.99" in failure.value.hint


async def test_an_index_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    with pytest.raises(EnvironmentFailed, match=r"127\.0\.0\.1:9"):
        await prepare(recipe("iniconfig==2.1.0"), tmp_path, lambda _: None)


async def test_two_tasks_of_one_recipe_build_it_once(tmp_path):
    said: list[list[str]] = [[], []]
    first, second = await asyncio.gather(
        *(prepare(recipe("iniconfig", "tomli"), tmp_path, words.append) for words in said)
    )
    assert first == second
    built = [words for words in said if any("Building" in line for line in words)]
    waited = [words for words in said if any("Waiting for another" in line for line in words)]
    assert len(built) == len(waited) == 1
    assert built != waited


async def test_cancelling_ends_the_build_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(endless_uv(tmp_path)))
    task = asyncio.create_task(prepare(recipe("iniconfig"), tmp_path, lambda _: None))

    async def begun() -> bool:
        return (tmp_path / "uv.pid").exists()

    await wait_until_async(begun, what="uv to run")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (folder,) = (tmp_path / "environments").iterdir()
    assert not environments(folder)


def endless_uv(folder: Path) -> Path:
    """A uv that makes a folder and then never comes to an end."""
    path = folder / "endless-uv"
    path.write_text(
        f"#!/bin/sh\nfor last; do :; done\nmkdir -p $last/bin\necho $$ > {folder}/uv.pid\n"
        "sleep 300\n"
    )
    path.chmod(0o755)
    return path


KILLED = """
import asyncio, sys, uv
from pathlib import Path
from clearflow.environment.build import prepare
from clearflow.environment.recipe import Recipe
uv.find_uv_bin = lambda: sys.argv[2]
recipe = Recipe.of({"requirements": ["iniconfig"]}, prefect=False)
asyncio.run(prepare(recipe, Path(sys.argv[1]), print))
"""


def start_builder(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, home, endless_uv(home)], stdout=subprocess.DEVNULL
    )


async def test_a_builder_killed_in_the_middle_leaves_no_half_environment(tmp_path):
    builder = start_builder(tmp_path)
    pid = tmp_path / "uv.pid"
    wait_until(lambda: pid.exists() and pid.read_text().strip())
    builder.kill()
    builder.wait()
    # Its uv goes on for a while, as it would in life.
    python = await prepare(recipe("iniconfig"), tmp_path, lambda _: None)
    os.killpg(int(pid.read_text()), signal.SIGKILL)
    assert imports(python, "iniconfig")
    assert environments(folder_of(python)) == [python.parent.parent], "the half one is swept"


async def test_an_environment_whose_interpreter_went_is_built_again(tmp_path):
    broken = await prepare(recipe("iniconfig"), tmp_path, lambda _: None)
    broken.unlink()
    again = await prepare(recipe("iniconfig"), tmp_path, lambda _: None)
    assert again != broken
    assert imports(again, "iniconfig")


async def built_hours_ago(tmp_path: Path, *names: str) -> list[Path]:
    """Environments last used 1, 2, ... hours ago."""
    pythons = []
    for hours, name in enumerate(names, start=1):
        python = await prepare(recipe(name), tmp_path, lambda _: None)
        moment = time.time() - hours * HOUR
        os.utime(folder_of(python) / "ready", (moment, moment))
        pythons.append(python)
    return pythons


async def test_eviction_takes_the_least_recently_used_first(tmp_path):
    new, middle, old = await built_hours_ago(tmp_path, "iniconfig", "tomli", "six")
    assert evict(tmp_path, keep=2) == [folder_of(old)]
    assert not old.exists()
    assert new.exists()
    assert middle.exists()
    size = build._size(new.parent.parent)
    assert evict(tmp_path, keep_bytes=size) == [folder_of(middle)]
    assert imports(new, "iniconfig")


async def test_eviction_spares_what_is_in_use_and_what_was_just_asked_for(tmp_path):
    new, old = await built_hours_ago(tmp_path, "iniconfig", "tomli")
    with lease(old):
        assert evict(tmp_path, keep=0) == [folder_of(new)]
        assert imports(old, "tomli")
    just = await prepare(recipe("tomli"), tmp_path, pytest.fail)
    assert evict(tmp_path, keep=0) == []
    assert just == old


async def test_an_evicted_environment_is_built_again(tmp_path):
    (old,) = await built_hours_ago(tmp_path, "iniconfig")
    assert evict(tmp_path, keep=0)
    with pytest.raises(EnvironmentFailed, match="evicted"), lease(old):
        pytest.fail("not to be used")
    again = await prepare(recipe("iniconfig"), tmp_path, lambda _: None)
    with lease(again):
        assert imports(again, "iniconfig")


def test_a_lease_of_an_interpreter_that_is_not_ours_costs_nothing():
    with lease(Path(sys.executable)):
        pass
