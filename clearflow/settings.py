"""clearflow's own settings: environment variables `CLEARFLOW_<NAME>`, read once per process.

The server's address and key are Prefect's settings and are read in `_prefect/connection.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from clearflow.errors import Usage


def _setting(default: Any, help: str, minimum: float | None = None) -> Any:
    return field(default=default, metadata={"help": help, "minimum": minimum})


@dataclass(frozen=True)
class Settings:
    """Every setting with its default; times are in seconds, sizes in bytes."""

    home: str = _setting("~/.clearflow", "where agents keep running tasks, logs and environments")
    pool: str = _setting("clearflow", "the work pool whose queues are used by default")
    heartbeat: float = _setting(10.0, "how often an agent with tasks tells that it lives", 0.2)
    silence: float = _setting(30.0, "an agent silent for this long has lost its tasks", 0.5)
    idle_ask: float = _setting(75.0, "how often an idle agent asks without being woken", 1.0)
    outage_grace: float = _setting(45.0, "how long nobody is declared lost after an outage", 0.0)
    grace: float = _setting(30.0, "from Ctrl-C to SIGTERM, and from there to SIGKILL", 0.0)
    drain: float = _setting(300.0, "how long a stopping agent waits for its tasks", 0.0)
    max_attempts: int = _setting(3, "how often a task is started before its loss is final", 1)
    warm: int = _setting(
        1, "0: an agent imports Prefect when its first flow comes; for scripts it needs none", 0
    )
    dataset_cache: int = _setting(0, "bytes of dataset copies a machine keeps; 0: no limit", 0)
    console_head: int = _setting(1_000_000, "bytes of a console that always reach Prefect", 0)
    console_tail: int = _setting(4_000_000, "last bytes of a console that reach Prefect", 0)

    @property
    def home_path(self) -> Path:
        return Path(self.home).expanduser()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Settings from variables such as `CLEARFLOW_HEARTBEAT`. Raises Usage for a bad value."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = f"CLEARFLOW_{item.name.upper()}"
            raw = environ.get(name)
            if raw is None:
                continue
            try:
                kind: Callable[[str], Any] = type(item.default)
                value = kind(raw)
            except ValueError:
                raise Usage(f"{name}={raw!r} is not a number") from None
            minimum = item.metadata["minimum"]
            if minimum is not None and value < minimum:
                raise Usage(f"{name}={raw} is too small: at least {minimum:g}")
            values[item.name] = value
        return cls(**values)


@cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings.from_environ(os.environ)
