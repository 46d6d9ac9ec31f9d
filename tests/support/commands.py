"""The command line in the process of the test: a new interpreter for each would cost a second."""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from clearflow.settings import settings


def command(
    env: Mapping[str, str], *words: str, folder: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """`clearflow …` with this environment, in this folder, and nothing to read from.

    For commands that end by themselves; signals and terminals need a process of their own.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        _process(env, folder, words),
        _no_loop(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _main()
    return subprocess.CompletedProcess(list(words), code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _no_loop() -> Iterator[None]:
    """Commands run an event loop of their own, also where the test has one, which stands still."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        yield
        return
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio.set_event_loop(loop)
        asyncio._set_running_loop(loop)


def _main() -> int:
    from clearflow.cli.main import main

    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _prefect(env: Mapping[str, str]) -> Iterator[None]:
    """Prefect reads its settings once, as it is imported, which here it has been."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    told = {PREFECT_API_URL: "PREFECT_API_URL", PREFECT_HOME: "PREFECT_HOME"}
    with temporary_settings({of: env[name] for of, name in told.items() if name in env}):
        yield


@contextlib.contextmanager
def _process(env: Mapping[str, str], folder: Path | None, words: tuple[str, ...]) -> Iterator[None]:
    """What a process of its own would have for itself."""
    environ, argv, stdin = dict(os.environ), sys.argv, sys.stdin
    given = dict(env)  # it may be that of this process
    os.environ.clear()
    os.environ.update(given)
    sys.argv, sys.stdin = ["clearflow", *words], io.StringIO()
    settings.cache_clear()
    try:
        with contextlib.chdir(folder or Path.cwd()), _prefect(env):
            yield
    finally:
        os.environ.clear()
        os.environ.update(environ)
        sys.argv, sys.stdin = argv, stdin
        settings.cache_clear()
