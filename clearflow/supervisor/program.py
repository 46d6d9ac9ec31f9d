"""A task that is a script: its working copy made again here, and its command line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.capture import reproduce
from clearflow.environment.shim import package_path
from clearflow.errors import ClearflowError
from clearflow.tasks.script import fetch
from clearflow.words import scripts
from clearflow.words.environ import SOCKET
from clearflow.words.scripts import Script


async def unpack(
    api: Api, script: Script, home: Path, folder: Path, say: Callable[[str], None]
) -> Path:
    """Make the working copy of a script below `folder`; returns where the script starts.

    Raises ClearflowError with the reason in one line.
    """
    bundles = folder / "bundles"
    bundles.mkdir()
    parts = await fetch(api, script, bundles)
    code = folder / "code"
    origin = parts[0].remote or "the machine it was queued on"
    say(f"Code: {script.entry} of {parts[0].commit[:12]} from {origin}")
    await asyncio.to_thread(reproduce.reproduce, parts, home, code)
    place = code / script.folder
    # A folder with nothing in it is in no commit.
    place.mkdir(parents=True, exist_ok=True)
    return place


async def arguments(api: Api, run_id: str) -> list[str]:
    """The arguments of a script as they stand in the run now."""
    given = (await runs.read(api, run_id)).parameters.get(scripts.ARGUMENTS) or []
    if not isinstance(given, list):
        raise ClearflowError(f"the parameter {scripts.ARGUMENTS!r} is not a list")
    return [str(each) for each in given]


def environment(
    env: Mapping[str, str], script: Script, code: Path, home: Path, socket: Path
) -> dict[str, str]:
    """A script is not Prefect's: nothing of the server, and no key of it, is in its environment.

    It finds clearflow's part for programs on its import path, and us at the socket.
    """
    kept = {k: v for k, v in env.items() if not k.startswith("PREFECT_")}
    paths = [str(package_path(home)), *(str(code / p) for p in script.paths)]
    kept["PYTHONPATH"] = os.pathsep.join(p for p in (*paths, env.get("PYTHONPATH")) if p)
    return {**kept, SOCKET: str(socket)}
