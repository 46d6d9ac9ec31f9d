"""Where the Prefect server is, and with which key: Prefect's own settings, read fast.

Importing Prefect takes more than a second and 80 MB, which a command that asks one question, and
an agent that waits for work, should not pay. So the two usual sources, the environment and the
active profile, are read here. When another source could play a part (`.env`, `prefect.toml`,
`pyproject.toml`), Prefect's settings are asked. A test holds both answers side by side.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearflow.errors import Unreachable

_TRUE = {"1", "true", "t", "yes", "y", "on"}


@dataclass(frozen=True)
class Connection:
    """How to reach a server. `repr` never shows the secrets."""

    url: str
    key: str | None = field(default=None, repr=False)
    auth_string: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify_tls: bool = True
    tls_cert_file: str | None = None

    @property
    def ui_url(self) -> str:
        return self.url.removesuffix("/api")

    def run_url(self, run_id: str) -> str:
        return f"{self.ui_url}/runs/flow-run/{run_id}"


def connection() -> Connection:
    """The server this process is configured for. Raises Unreachable when there is none."""
    values = _from_environ_and_profile(os.environ) if not _other_sources() else None
    if values is None:
        values = _from_prefect()
    url = values.get("PREFECT_API_URL")
    if not url:
        raise Unreachable(
            "no Prefect server is configured",
            hint="`clearflow init` connects to one, `clearflow up` starts one here",
        )
    headers = values.get("PREFECT_CLIENT_CUSTOM_HEADERS") or {}
    if isinstance(headers, str):
        headers = json.loads(headers)
    return Connection(
        url=str(url).rstrip("/"),
        key=values.get("PREFECT_API_KEY"),
        auth_string=values.get("PREFECT_API_AUTH_STRING"),
        headers={str(k): str(v) for k, v in headers.items()},
        verify_tls=str(values.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "")).lower() not in _TRUE,
        tls_cert_file=values.get("PREFECT_API_SSL_CERT_FILE"),
    )


def _other_sources() -> bool:
    if Path(".env").exists() or Path("prefect.toml").exists():
        return True
    project = Path("pyproject.toml")
    return project.exists() and "tool.prefect" in project.read_text(errors="replace")


def prefect_home(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("PREFECT_HOME", "~/.prefect")).expanduser()


def profiles_path(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(
        environ.get("PREFECT_PROFILES_PATH", str(prefect_home(environ) / "profiles.toml"))
    ).expanduser()


def _from_environ_and_profile(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    path = profiles_path(environ)
    if path.exists():
        try:
            data = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise Unreachable(f"{path} cannot be read: {error}") from None
        active = environ.get("PREFECT_PROFILE") or data.get("active")
        values.update(data.get("profiles", {}).get(active or "", {}))
    elif environ.get("PREFECT_PROFILE"):
        # A profile that only Prefect's defaults know.
        values.update(_from_prefect())
    values.update({k: v for k, v in environ.items() if k.startswith("PREFECT_")})
    return values


def _from_prefect() -> dict[str, Any]:
    from prefect.settings import get_current_settings

    current = get_current_settings()
    api = current.api
    return {
        "PREFECT_API_URL": api.url,
        "PREFECT_API_KEY": api.key.get_secret_value() if api.key else None,
        "PREFECT_API_AUTH_STRING": (
            api.auth_string.get_secret_value() if api.auth_string else None
        ),
        "PREFECT_CLIENT_CUSTOM_HEADERS": current.client.custom_headers,
        "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": str(api.tls_insecure_skip_verify),
        "PREFECT_API_SSL_CERT_FILE": api.ssl_cert_file,
    }
