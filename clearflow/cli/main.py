"""The command line: `clearflow <noun> <verb>`.

Data goes to stdout, talk to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 server
unreachable, 5 refused, 130 interrupted. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.main import get_command

from clearflow.cli import (
    agent,
    dataset,
    model,
    monitor,
    queue,
    schedule,
    search,
    start,
    store,
    task,
    trigger,
)
from clearflow.cli import app as applications
from clearflow.errors import ClearflowError

app = typer.Typer(
    name="clearflow",
    help="Ordered queues and fast agents for Prefect.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help is there in half the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
start.register(app)
app.add_typer(agent.app, name="agent")
app.add_typer(queue.app, name="queue")
app.add_typer(task.app, name="task")
app.add_typer(applications.app, name="app")
app.add_typer(schedule.app, name="schedule")
app.add_typer(trigger.app, name="trigger")
app.add_typer(search.app, name="search")
app.add_typer(monitor.app, name="monitor")
app.add_typer(dataset.app, name="dataset")
app.add_typer(model.app, name="model")
app.add_typer(store.app, name="store")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("clearflow"))
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Ordered queues and fast agents for Prefect."""


def _help(words: list[str]) -> str | None:
    """The help of a command line that asks for it and for nothing else; None for any other.

    Typer comes to the same text, but imports pydantic to parse the line first.
    """
    if not words or words[-1] not in {"-h", "--help"}:
        return None
    command: Any = get_command(app)
    context = typer.Context(command, info_name="clearflow", **command.context_settings)
    for word in words[:-1]:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return None
        context = typer.Context(command, info_name=word, parent=context)
    return str(command.get_help(context))


def main() -> None:
    """The entry point; ends the process."""
    try:
        if (text := _help(sys.argv[1:])) is not None:
            typer.echo(text)
            return
        app(prog_name="clearflow")
    except ClearflowError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read the output has enough. Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
