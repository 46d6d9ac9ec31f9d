"""A task in a process of this machine: its code, its environment, its set-up script, its start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clearflow.environment import build
from clearflow.environment.recipe import Recipe
from clearflow.environment.shim import package_path
from clearflow.errors import ClearflowError
from clearflow.runtimes import process
from clearflow.runtimes.running import TaskProcess
from clearflow.settings import settings
from clearflow.supervisor import program, spawn
from clearflow.supervisor.runtime import Task
from clearflow.words.scripts import Script


class OnThisMachine:
    """The runtime of a task whose process is one of this machine, in a new interpreter."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._job, self._env, self._place = task.job, task.env, task.place
        self._script = Script.of(task.job.variables)
        self._python = Path(sys.executable)
        self._leases = contextlib.ExitStack()

    async def prepare(self) -> None:
        variables, home = self._job.variables, settings().home_path
        say = self._task.console.note
        if self._script is not None:
            folder = self._task.rundir.path
            self._place = await program.unpack(self._task.api, self._script, home, folder, say)
            self._env["PWD"] = str(self._place)
        recipe = Recipe.of(variables, prefect=self._script is None)
        if recipe is not None:
            python = self._python = await build.prepare(recipe, home, say)
            if self._script is None:
                paths = (str(package_path(home)), self._env.get("PYTHONPATH"))
                self._env["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
            self._env["VIRTUAL_ENV"] = str(python.parent.parent)
            self._env["PATH"] = f"{python.parent}{os.pathsep}{self._env.get('PATH', '')}"
        if words := variables.get("setup_script"):
            await self._set_up(str(words))
        self._leases.enter_context(build.lease(self._python))

    async def start(self, arguments: Sequence[str]) -> TaskProcess:
        if self._script is None:
            child = spawn.execute(self._job, self._python, self._env)
        else:
            folder, home = self._task.rundir.path, settings().home_path
            code = folder / "code"
            env = program.environment(self._env, self._script, code, home, folder / "t")
            words = [str(self._python), *self._script.words(str(code)), *arguments]
            child = spawn.program(self._job, words, env, self._place)
        self._task.attach(child)
        return child

    async def freeze(self, frozen: bool) -> None:
        process.freeze(self._job.token, frozen)

    async def close(self) -> None:
        self._leases.close()

    async def _set_up(self, words: str) -> None:
        started = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-ec",
            words,
            cwd=self._place,
            env={**self._env, process.CLAIM: self._job.token},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert started.stdout is not None
        while chunk := await started.stdout.read(1 << 16):
            self._task.console.take(chunk)
        code = await started.wait()
        if code:
            raise ClearflowError(f"the set-up script ended with exit code {code}")
