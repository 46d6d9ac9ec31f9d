"""A task in a Docker container: what it is made of, and its start.

The supervisor stays outside, on the machine. The container has the working copy, clearflow's part
for programs, the socket to the supervisor and the environment, mounted at fixed places; nothing of
the server, and no key of it, is inside. It starts while the code is still being fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clearflow.environment import build, shim
from clearflow.environment.recipe import Recipe
from clearflow.errors import ClearflowError, Refused
from clearflow.runtimes import container, docker, process, tether
from clearflow.runtimes.container import Container, mount
from clearflow.runtimes.docker import Engine, Image
from clearflow.runtimes.running import TaskProcess
from clearflow.settings import settings
from clearflow.supervisor import program
from clearflow.supervisor.in_image import PYTHONS, InImage, in_thread, pythons_folder
from clearflow.supervisor.runtime import Task
from clearflow.words import containers
from clearflow.words.containers import ROOM, Options, Policy
from clearflow.words.environ import PATHS, SOCKET, TASK
from clearflow.words.scripts import Script

CODE, ENVIRONMENT, LIBRARY = f"{ROOM}/code", f"{ROOM}/environment", f"{ROOM}/library"
DATASETS = f"{ROOM}/datasets"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class InContainer:
    """The runtime of a script whose process is in a container."""

    def __init__(self, task: Task) -> None:
        self._task, self._job = task, task.job
        self._variables = task.job.variables
        self._script = Script.of(task.job.variables)
        self._policy = Policy.of(task.job.docker)
        self._python = "python3"
        self._engine: Engine | None = None
        self._container: Container | None = None
        self._leases = contextlib.ExitStack()

    async def prepare(self) -> None:
        if self._script is None:
            raise Refused(
                "a decorated flow does not run in Docker", hint="leave out `runtime` and `image`"
            )
        script, folder, say = self._script, self._task.rundir.path, self._task.console.note
        name = self._policy.choose(str(self._variables.get("image") or ""))
        options = self._options()
        # Mounted before there is anything in it.
        (folder / "code").mkdir()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._start_container(name, options))
                home = settings().home_path
                both.create_task(program.unpack(self._task.api, script, home, folder, say))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # one reason is enough
        if words := self._variables.get("setup_script"):
            ended = await self._run(["/bin/sh", "-ec", str(words)])
            if ended.code:
                raise ClearflowError(f"the set-up script ended with exit code {ended.code}")

    async def start(self, arguments: Sequence[str]) -> TaskProcess:
        assert self._script is not None
        assert self._container is not None
        words = [self._python, *self._script.words(CODE), *arguments]
        await self._container.run(words, self._folder)
        return self._container

    async def freeze(self, frozen: bool) -> None:
        if self._container is not None:
            await self._container.freeze(frozen)

    async def close(self) -> None:
        if self._container is not None:
            await self._container.close()
        if self._engine is not None:
            self._engine.close()
        self._leases.close()

    @property
    def _folder(self) -> str:
        assert self._script is not None
        return f"{CODE}/{self._script.folder}".rstrip("/.")

    async def _run(self, words: Sequence[str]) -> Any:
        assert self._container is not None
        await self._container.run(words, self._folder)
        return await self._container.wait()

    def _options(self) -> Options:
        """The agent's arguments, and the task's after them. Raises Usage or Refused."""
        agents = containers.options(self._policy.arguments, own=os.environ)
        return containers.options(str(self._variables.get("docker_args") or ""), agents)

    async def _start_container(self, name: str, options: Options) -> None:
        say = self._task.console.note
        self._engine = engine = await in_thread(Engine)
        image = await in_thread(lambda: engine.image(name, say))
        environment = await self._environment(name, image, options)
        self._container = made = Container(engine, self._task.rundir)
        await made.listen()
        # The container's user may be another; nobody else can enter the folder it lies in.
        (self._task.rundir.path / "t").chmod(0o666)
        await made.start(self._config(name, image, options, environment))
        self._task.attach(made)

    async def _environment(self, name: str, image: Image, options: Options) -> Path | None:
        """The folder of the environment for this task; None when the image is all it needs."""
        recipe = Recipe.of(self._variables, prefect=False)
        if recipe is None:
            return None
        if not self._variables.get("python_version"):
            recipe = replace(recipe, python_version="3")  # the image's
        recipe = replace(recipe, platform=f"{recipe.platform} in {image.id}")
        labels = docker.labels(self._job.token, self._job.agent, settings().home_path)
        builder = InImage(name, ENVIRONMENT, labels, options)
        python = await build.prepare(recipe, settings().home_path, self._task.console.note, builder)
        self._leases.enter_context(build.lease(python))
        self._python = f"{ENVIRONMENT}/bin/python"
        return python.parent.parent

    def _config(
        self, name: str, image: Image, options: Options, environment: Path | None
    ) -> dict[str, Any]:
        """The container as the Engine wants it described."""
        folder = self._task.rundir.path
        mounts = [
            mount(folder / "code", CODE, writable=True),
            mount(folder / "t", f"{ROOM}/t"),
            mount(folder / container.SOCKET, f"{ROOM}/{container.SOCKET}"),
            mount(shim.package(), f"{LIBRARY}/clearflow"),
            mount(str(tether.__file__), f"{ROOM}/tether.py"),
            mount(self._datasets(), DATASETS),
        ]
        if environment is not None:
            mounts.append(mount(environment, ENVIRONMENT))
            mounts.append(mount(pythons_folder(settings().home_path), PYTHONS))
        user, env = options.user, self._env(image, options, environment)
        if user is None:
            user = f"{os.getuid()}:{os.getgid()}"
            if os.getuid() and "HOME" not in env:
                # No entry in the image's list of users: it would be `/`, closed to this one.
                (folder / "home").mkdir()
                mounts.append(mount(folder / "home", f"{ROOM}/home", writable=True))
                env["HOME"] = f"{ROOM}/home"
        host = options.host_config()
        host["Mounts"] = [*mounts, *host.get("Mounts", ())]
        if self._job.gpus:
            ids = {"DeviceIDs": list(self._job.gpus), "Capabilities": [["gpu"]]}
            host["DeviceRequests"] = [ids]
        first = [self._python, "-I", "-S", f"{ROOM}/tether.py", f"{ROOM}/{container.SOCKET}"]
        return {
            "Image": name,
            "Entrypoint": first,
            "Env": [f"{key}={value}" for key, value in env.items()],
            "User": user,
            "WorkingDir": ROOM,
            "Labels": docker.labels(self._job.token, self._job.agent, settings().home_path),
            "AttachStdout": True,
            "AttachStderr": True,
            "Healthcheck": {"Test": ["NONE"]},
            # The console is the supervisor's: the Engine need not keep it, too.
            "HostConfig": {**host, "AutoRemove": True, "LogConfig": {"Type": "none"}},
        }

    def _env(self, image: Image, options: Options, environment: Path | None) -> dict[str, str]:
        """The environment variables beside those of the image."""
        assert self._script is not None
        asked = {**options.env, **self._job.env, **(self._variables.get("env") or {})}
        env = {
            key: str(value)
            for key, value in asked.items()
            if value is not None and not key.startswith("PREFECT_")
        }
        before = {**image.env, **env}
        paths = [LIBRARY, *(f"{CODE}/{path}" for path in self._script.paths)]
        env["PYTHONPATH"] = ":".join(p for p in (*paths, before.get("PYTHONPATH")) if p)
        if environment is not None:
            env["VIRTUAL_ENV"] = ENVIRONMENT
            env["PATH"] = f"{ENVIRONMENT}/bin:{before.get('PATH') or _PATH}"
        if not self._job.gpus:
            # An Engine whose default runtime is NVIDIA's would show all of them.
            env["NVIDIA_VISIBLE_DEVICES"] = "void"
        return {
            **env,
            "PYTHONUNBUFFERED": "1",
            process.CLAIM: self._job.token,
            TASK: self._job.task_id,
            SOCKET: f"{ROOM}/t",
            PATHS: json.dumps(self._outside()),
        }

    def _outside(self) -> dict[str, str]:
        """What the folders of the container are to the supervisor, which moves datasets."""
        return {CODE: str(self._task.rundir.path / "code"), DATASETS: str(self._datasets())}

    @staticmethod
    def _datasets() -> Path:
        """The copies of datasets that the tasks of this machine share."""
        folder = settings().home_path / "datasets"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
