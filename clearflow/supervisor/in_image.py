"""The environment of a task in Docker: built by uv in a container of its image, kept on the host.

So it fits the image, its Python and its C library, whatever this machine has. It is built once per
recipe and image, like any other environment, and mounted into the containers of tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from clearflow.environment import uv
from clearflow.errors import ClearflowError, EnvironmentFailed
from clearflow.runtimes import docker
from clearflow.runtimes.container import mount
from clearflow.runtimes.docker import Engine
from clearflow.words.containers import ROOM, Options

Result = TypeVar("Result")

# uv is made for glibc; an image with another C library has its own Python's tools.
_BUILD = """
cd {room}
if {room}/uv --version >/dev/null 2>&1; then
    {room}/uv venv --no-project --quiet --allow-existing --python "$1" {target}
    {room}/uv pip install --python {target}/bin/python -r {room}/requirements.txt
else
    python3 -c 'import sys; v = ".".join(map(str, sys.version_info[:3])) + "."; \
sys.exit(0 if v.startswith(sys.argv[1] + ".") else "error: no Python " + sys.argv[1])' "$1"
    python3 -m venv {target}
    {target}/bin/python -m pip install --disable-pip-version-check -r {room}/requirements.txt
fi
"""
_LAST_WORDS = 30

PYTHONS = f"{ROOM}/pythons"


async def in_thread(call: Callable[[], Result]) -> Result:
    """The result of something that blocks, for as long as it is waited for.

    It need not end with this process: a pull that nobody waits for is the Engine's own affair.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def tell(act: Callable[[Any], None], what: Any) -> None:
        if not done.done():
            act(what)

    def work() -> None:
        try:
            act, what = done.set_result, call()
        except BaseException as error:
            act, what = done.set_exception, error  # type: ignore[assignment]
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, act, what)

    threading.Thread(target=work, daemon=True, name="clearflow-docker").start()
    return await done


def pythons_folder(home: Path) -> Path:
    """Where the interpreters lie that uv has fetched for images without the one that is asked."""
    return home / "docker-pythons"


class InImage:
    """Builds environments in containers of one image, where they are at `place`."""

    def __init__(self, image: str, place: str, labels: Mapping[str, str], options: Options) -> None:
        self._image, self._place, self._labels, self._options = image, place, labels, options
        self._version = ""

    async def create(
        self, target: Path, python_version: str, home: Path, say: Callable[[str], None]
    ) -> None:
        target.mkdir()  # noqa: ASYNC240 - one system call
        self._version = python_version

    async def install(
        self, target: Path, requirements: Path, home: Path, say: Callable[[str], None]
    ) -> None:
        """Raises EnvironmentFailed with the resolver's words."""
        say(f"In a container of {self._image}; it is kept for others of this image")
        engine = await in_thread(Engine)
        made: list[str] = []
        loop = asyncio.get_running_loop()
        config = self._config(target, requirements, home)
        last: list[str] = []
        gone = threading.Event()

        def tell(line: str) -> None:
            last.append(line)
            del last[:-_LAST_WORDS]
            if uv.is_progress(line):
                loop.call_soon_threadsafe(say, f"  {line.strip()}")

        try:
            code = await in_thread(lambda: _run(engine, config, made, gone, tell))
        finally:
            gone.set()
            for container in made:
                with contextlib.suppress(ClearflowError):
                    await asyncio.shield(in_thread(partial(_remove, container)))
            engine.close()
        if code:
            for line in last:
                say(f"  uv: {line}")
            raise EnvironmentFailed(uv.reason(last) or f"it ended with exit code {code}")

    def stands(self, python: Path) -> bool:
        """Its interpreter is in the image."""
        return os.path.lexists(python)

    def _config(self, target: Path, requirements: Path, home: Path) -> dict[str, Any]:
        cache, pythons = home / "cache" / "uv-docker", pythons_folder(home)
        for folder in (cache, pythons):
            folder.mkdir(parents=True, exist_ok=True)
        env = {
            **uv.settings(),
            # What a line of the requirements names, such as a key.
            **_named(requirements.read_text()),
            "UV_CACHE_DIR": f"{ROOM}/cache",
            "UV_PYTHON_INSTALL_DIR": PYTHONS,
            "UV_LINK_MODE": "copy",
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
            "HOME": f"{ROOM}/cache",
        }
        mounts = [
            mount(target, self._place, writable=True),
            mount(cache, f"{ROOM}/cache", writable=True),
            mount(pythons, PYTHONS, writable=True),
            mount(requirements, f"{ROOM}/requirements.txt"),
            mount(uv.binary(), f"{ROOM}/uv"),
        ]
        certificates = env.get("SSL_CERT_FILE")
        if certificates and Path(certificates).is_file():
            mounts.append(mount(certificates, f"{ROOM}/certificates.pem"))
            env["SSL_CERT_FILE"] = env["PIP_CERT"] = f"{ROOM}/certificates.pem"
        script = _BUILD.format(room=ROOM, target=self._place)
        # A task that must not reach the network may need packages from there.
        network = None if self._options.network == "none" else self._options.network
        host = {"Mounts": mounts, "NetworkMode": network}
        return {
            "Image": self._image,
            "Entrypoint": ["/bin/sh", "-ec", script, "sh", self._version],
            "Env": [f"{key}={value}" for key, value in env.items()],
            "User": f"{os.getuid()}:{os.getgid()}",
            "Labels": dict(self._labels),
            "AttachStdout": True,
            "AttachStderr": True,
            "HostConfig": {k: v for k, v in host.items() if v} | {"LogConfig": {"Type": "none"}},
        }


def _remove(container: str) -> None:
    # On a connection of its own: the other one may still wait for this container.
    engine = Engine()
    engine.remove(container)
    engine.close()


def _named(text: str) -> dict[str, str]:
    names = re.findall(r"\$\{([A-Z0-9_]+)\}", text)
    return {name: os.environ[name] for name in names if name in os.environ}


def _run(
    engine: Engine,
    config: Mapping[str, Any],
    made: list[str],
    gone: threading.Event,
    tell: Callable[[str], None],
) -> int:
    """Run a container to its end, telling each line it prints; its exit code.

    It is in `made` for others to remove, unless nobody was there any more when it was made.
    """
    container = engine.create(config)
    made.append(container)
    if gone.is_set():
        _remove(container)
        return 1
    stream = engine.attach(container)
    read, write = os.pipe()
    copying = threading.Thread(target=docker.copy, args=(stream, write), daemon=True)
    copying.start()
    engine.start(container)
    with open(read, errors="replace") as lines:
        for line in lines:
            tell(line.rstrip())
    return engine.exit_code(container)
