"""What the tests of schedules and of triggers share: their place, tasks, and commands."""

import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clearflow._prefect import pools, runs
from clearflow.settings import settings
from clearflow.words import lifecycle
from clearflow.words.lifecycle import Write
from clearflow.words.models import COMPLETED, Run
from clearflow.words.names import labels, tags
from clearflow.words.notes import Note
from tests.support.agents import Client, Site, opened
from tests.support.processes import marked
from tests.support.server import PrefectServer


@contextlib.contextmanager
def place(server: PrefectServer, folder: Path, pool: str) -> Iterator[Site]:
    """A pool for the tests of a module; after them nothing goes on by itself."""
    with marked(f"module-{pool}"):
        env = server.env(home=folder / "prefect-home") | {"CLEARFLOW_POOL": pool}
        with opened(server.url, env, folder, pool) as site:
            yield site
    server.calm()


@contextlib.contextmanager
def here(site: Site) -> Iterator[None]:
    """This process is one of the place: it has its server and its pool."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in site.env.items():
            if name.startswith(("PREFECT_", "CLEARFLOW_")):
                patch.setenv(name, value)
        settings.cache_clear()
        yield
    settings.cache_clear()


async def task(
    ask: Client, name: str, project: str, *, more: str = "", marks: tuple[str, ...] = (), **new: Any
) -> Run:
    """A task that has completed, with parameters that a clone may change, `more` among them.

    Nobody serves the queue `idle`.
    """
    for queue in ("cpu", "idle"):
        await pools.ensure_queue(ask.api, settings().pool, queue)
    deployment = await ask.deploy("endings.py:completes", "cpu")
    new.setdefault("parameters", {"General": {"lr": 0.1, more: ""}})
    made = await runs.create(
        ask.api,
        deployment,
        write=lifecycle.made("alice"),
        name=name,
        tags=[*marks, *tags(project, "alice")],
        labels=labels(name, project),
        **new,
    )
    done = Write(COMPLETED, "Completed", Note("exit code 0"), force=True)
    await runs.propose(ask.api, made.id, done)
    return await runs.read(ask.api, made.id)


def python(site: Site, *words: str) -> "subprocess.CompletedProcess[str]":
    """A program of the place, once it has ended."""
    return subprocess.run(
        [sys.executable, *words], env=dict(site.env), capture_output=True, text=True, check=False
    )


def clearflow(*words: str) -> "subprocess.CompletedProcess[str]":
    """A command in this process, which starts in no time."""
    from clearflow.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clearflow", *words])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
