"""Every file in `examples/` runs as it stands, and ends with the line it announces."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agents import Site, opened
from tests.support.processes import kill_leftovers, marked
from tests.support.server import PrefectServer

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
MODULE = "module-examples"


@pytest.fixture(scope="module")
def served(
    server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, dict[str, str]]]:
    """What the examples say they need: the pool `clearflow`, and an agent for `cpu`."""
    folder = tmp_path_factory.mktemp("examples")
    env = server.env(home=folder / "prefect-home")
    with marked(MODULE):
        with opened(server.url, env, folder, "clearflow") as site:
            site.agent("cpu", slots=2)
            yield site, env
        assert not kill_leftovers(MODULE)
    server.calm()


def test_there_are_examples():
    assert {"enqueue_flow", "plain_flow", "reorder"} <= {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_ends_as_it_says(example: Path, served: tuple[Site, dict[str, str]]):
    announced = re.findall(r"^# Last line: (.+)$", example.read_text(), re.M)
    assert len(announced) == 1, "an example says at its end what its last line is"
    site, env = served
    done = subprocess.run(
        [sys.executable, str(example)],
        env=env,
        cwd=site.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == announced[0], done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_begins_with_what_it_shows(example: Path):
    assert example.read_text().startswith('"""')


def test_the_plain_program_imports_nothing_of_clearflow():
    (plain,) = (path for path in EXAMPLES if path.stem == "plain_flow")
    assert not re.search(r"^\s*(import|from) clearflow", plain.read_text(), re.M)
