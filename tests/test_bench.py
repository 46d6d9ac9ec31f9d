"""The bench finds what a test leaves behind, and says what it waits for."""

import subprocess
import sys
import uuid

import pytest

from tests.support.processes import MARK, clean_environment, kill_leftovers, processes_of
from tests.support.waiting import wait_until, wait_until_async

PARENT_OF_A_SLEEPER = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found through /proc")
def test_a_process_left_behind_is_found_and_killed() -> None:
    test_id = f"test-{uuid.uuid4().hex}"
    environment = clean_environment({MARK: test_id})
    subprocess.run([sys.executable, "-c", PARENT_OF_A_SLEEPER], env=environment, check=True)

    (left,) = kill_leftovers(test_id, grace=0)

    assert "signal.pause()" in left.command
    assert not processes_of(test_id)


def test_children_get_no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "mine")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    environment = clean_environment({"PREFECT_API_URL": "theirs"})

    assert {"PREFECT_API_KEY", "PYTHONDONTWRITEBYTECODE"}.isdisjoint(environment)
    assert environment["PREFECT_API_URL"] == "theirs"
    assert environment[MARK]


def test_waiting_says_what_for() -> None:
    with pytest.raises(AssertionError, match=r"0\.1 s for the moon; the last look gave None"):
        wait_until(lambda: None, timeout=0.1, what="the moon")


async def test_waiting_gives_what_it_found() -> None:
    looks = iter([0, "", 7])

    async def look() -> object:
        return next(looks)

    assert await wait_until_async(look, timeout=5) == 7
