"""The two things asked of uv: make a virtual environment, and install into it.

Byte code is not compiled at the install: for 111 packages with Prefect and scikit-learn that
takes 13 s instead of 1.2 s on two cores, while compiling just what a task imports, when it first
does, takes 5 s.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from clearflow.environment.recipe import own_version
from clearflow.errors import EnvironmentFailed

_LAST_WORDS = 30
_NOT_PASSED_ON = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT")
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")
_PACKAGE_LINE = re.compile(r"\s*[+~-] \S+==\S+")


async def create(target: Path, python_version: str, home: Path, say: Callable[[str], None]) -> None:
    """An empty virtual environment. Raises EnvironmentFailed when there is no such Python."""
    arguments = ["venv", "--no-project", "--quiet", "--python", _interpreter(python_version)]
    try:
        await _run([*arguments, str(target)], home, say)
    except EnvironmentFailed as error:
        have = ", ".join(sorted({own_version(), *_of_pyenv()}))
        raise EnvironmentFailed(
            f"no Python {python_version} on this machine ({error.message})",
            hint=f"`uv python install {python_version}` there; it has {have}",
        ) from error


async def install(target: Path, requirements: Path, home: Path, say: Callable[[str], None]) -> None:
    """Install a requirements file. Raises EnvironmentFailed with the resolver's words."""
    python = str(target / "bin" / "python")
    await _run(["pip", "install", "--python", python, "-r", str(requirements)], home, say)


def stands(python: Path) -> bool:
    """Whether the executable is there; the interpreter it links to may have been uninstalled."""
    return python.exists()


def binary() -> Path:
    """The program itself."""
    from uv import find_uv_bin

    return Path(find_uv_bin())


def settings() -> dict[str, str]:
    """What the agent's own environment says of indexes, keys, proxies and certificates."""
    return {k: v for k, v in os.environ.items() if k.startswith("UV_") or k.upper() in _NETWORK}


async def _run(arguments: list[str], home: Path, say: Callable[[str], None]) -> None:
    process = await asyncio.create_subprocess_exec(
        binary(),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # A group of its own: packages are compiled by children of uv.
        start_new_session=True,
        cwd=home,
        env=_environ(home),
    )
    last: collections.deque[str] = collections.deque(maxlen=_LAST_WORDS)
    try:
        assert process.stderr is not None
        while line := await _line(process.stderr):
            text = line.decode(errors="replace").rstrip()
            last.append(text)
            if is_progress(text):
                say(f"  {text.strip()}")
        code = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if code:
        for text in last:
            say(f"  uv: {text}")
        raise EnvironmentFailed(reason(list(last)) or f"uv ended with exit code {code}")


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed)


def is_progress(text: str) -> bool:
    """Whether a line of uv's tells how far it is."""
    words = text.split(maxsplit=1)
    return bool(words) and words[0] in {
        "Resolved", "Downloading", "Building", "Built", "Prepared", "Installed",
    }  # fmt: skip


def reason(lines: list[str]) -> str:
    """The error and its first cause, in one line."""
    words = [line for line in lines if not _PACKAGE_LINE.match(line)]
    start = next((i for i, line in enumerate(words) if line.startswith("error:")), None)
    if start is None:
        return ""
    error = words[start].removeprefix("error:").strip()
    causes = [line.strip() for line in words[start + 1 :] if line.strip().startswith("cause:")]
    cause = causes[0].removeprefix("cause:").strip() if causes else ""
    return (f"{error}: {cause}" if cause else error)[:500]


def _environ(home: Path) -> dict[str, str]:
    """The agent's own environment: indexes, keys, proxies and certificates come from there."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_PASSED_ON)}
    # Hard links need the cache on the same file system; a copy takes half as long again.
    if "UV_CACHE_DIR" not in environ and not _share_a_device(_cache(environ), home):
        environ["UV_CACHE_DIR"] = str(home / "cache" / "uv")
    return environ | {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"}


def _cache(environ: dict[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME")
    return Path(base) if base else Path("~/.cache").expanduser()


def _share_a_device(one: Path, other: Path) -> bool:
    while not one.exists() and one != one.parent:
        one = one.parent
    return one.stat().st_dev == other.stat().st_dev


def _interpreter(python_version: str) -> str:
    """What to ask of uv: an executable where one is known, else the version.

    uv looks into its own folder and the search path, and pyenv's shims there only work for the
    version that pyenv has switched on.
    """
    exact = ".".join(map(str, sys.version_info[:3]))
    if python_version in {own_version(), exact}:
        return sys.executable
    found = _of_pyenv()
    fits = [v for v in found if v == python_version or v.startswith(f"{python_version}.")]
    return str(found[max(fits, key=_numbers)]) if fits else python_version


def _of_pyenv() -> dict[str, Path]:
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    paths = sorted(root.glob("versions/3.*/bin/python"))
    return {path.parent.parent.name: path for path in paths}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
