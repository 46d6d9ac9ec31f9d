"""What has to be there before a task starts in an interpreter of its own.

Its code, its environment, and what its set-up script does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from clearflow._prefect.http import Api
from clearflow.environment import build
from clearflow.environment.recipe import Recipe
from clearflow.environment.shim import package_path
from clearflow.errors import ClearflowError
from clearflow.runtimes import process
from clearflow.runtimes.rundir import Job, RunDir
from clearflow.settings import settings
from clearflow.supervisor import program
from clearflow.supervisor.console import Console
from clearflow.words.scripts import Script


class Preparation:
    """The preparation of one task; `env` and `place` are those of its process, as they become."""

    def __init__(
        self,
        api: Api,
        rundir: RunDir,
        job: Job,
        env: dict[str, str],
        place: Path,
        console: Console,
    ) -> None:
        self._api, self._rundir, self._job, self._console = api, rundir, job, console
        self.env, self.place = env, place

    async def prepare(self) -> Path:
        """Make everything ready; returns the interpreter. Raises ClearflowError in one line."""
        variables, home = self._job.variables, settings().home_path
        script = Script.of(variables)
        python = Path(sys.executable)
        if script is not None:
            folder, say = self._rundir.path, self._console.note
            self.place = await program.unpack(self._api, script, home, folder, say)
            self.env["PWD"] = str(self.place)
        recipe = Recipe.of(variables, prefect=script is None)
        if recipe is not None:
            python = await build.prepare(recipe, home, self._console.note)
            if script is None:
                paths = (str(package_path(home)), self.env.get("PYTHONPATH"))
                self.env["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
            self.env["VIRTUAL_ENV"] = str(python.parent.parent)
            self.env["PATH"] = f"{python.parent}{os.pathsep}{self.env.get('PATH', '')}"
        if words := variables.get("setup_script"):
            await self._set_up(str(words))
        return python

    def script_environment(self, script: Script) -> dict[str, str]:
        """The environment variables of a script's process."""
        folder, home = self._rundir.path, settings().home_path
        return program.environment(self.env, script, folder / "code", home, folder / "t")

    async def _set_up(self, words: str) -> None:
        started = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-ec",
            words,
            cwd=self.place,
            env={**self.env, process.CLAIM: self._job.token},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert started.stdout is not None
        while chunk := await started.stdout.read(1 << 16):
            self._console.take(chunk)
        code = await started.wait()
        if code:
            raise ClearflowError(f"the set-up script ended with exit code {code}")
