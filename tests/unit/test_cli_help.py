"""Help is there at once: nothing heavy is imported for it, and every command has one."""

import subprocess
import sys

import pytest
from typer.main import get_command

from clearflow.cli.main import app
from tests.support.processes import clean_environment

# Each takes longer to import than the help takes to show.
HEAVY = ("asyncio", "fastapi", "httpx", "prefect", "pydantic", "rich", "sqlalchemy", "websockets")


def commands() -> list[list[str]]:
    """Every command line that has a help."""
    found: list[list[str]] = []

    def walk(command: object, words: list[str]) -> None:
        found.append(words)
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*words, name])

    walk(get_command(app), [])
    return found


def run(*words: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; sys.argv = ['clearflow', *sys.argv[1:]]; import clearflow.cli.main as m\n"
        "try: m.main()\n"
        f"finally: print(*sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help(words: list[str]) -> None:
    done = run(*words, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: clearflow")
    assert " ".join(words) in done.stdout
    assert done.stderr.strip() == "", "imported for a help text"


def test_the_short_way_to_the_help_says_the_same() -> None:
    """Where the quick way does not understand the line, Typer parses it."""
    quick = run("queue", "move", "--help").stdout
    parsed = run("queue", "move", "--front", "--help").stdout
    assert quick == parsed
    assert "-h, --help" in quick


def test_the_version() -> None:
    assert run("--version").stdout.strip() == "0.1.0"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["queue", "nonsense"], "No such command 'nonsense'"),
        (["queue", "move", "--nonsense"], "No such option"),
        (["queue", "create"], "Missing argument"),
        (["task", "wait", "x", "--timeout", "soon"], "Invalid value for '--timeout'"),
    ],
)
def test_bad_usage(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
