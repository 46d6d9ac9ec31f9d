"""Where large things are kept: an address that fsspec understands, and what it needs to get in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_FOLDER = "store"
"""The folder below CLEARFLOW_HOME that is the store where nobody has named one."""


@dataclass(frozen=True)
class Place:
    """A store. `options` may hold secrets: they are never shown or kept.

    `mark` is what stands in a store that was named on purpose, so that another machine's folder of
    the same name is not taken for it; empty for the folder that each machine has for itself.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    mark: str = ""
    host: str = ""

    @property
    def shared(self) -> bool:
        """Whether somebody has named it for all machines."""
        return bool(self.mark)


def options_of(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What fsspec wants of a credentials block of this type slug. Raises KeyError for others."""
    return {key: value for key, value in _OPTIONS[kind](values).items() if value}


def _aws(values: Mapping[str, Any]) -> dict[str, Any]:
    client = values.get("aws_client_parameters") or {}
    named = {
        "endpoint_url": client.get("endpoint_url"),
        "region_name": values.get("region_name"),
        "verify": client.get("verify_cert_path") or None,
    }
    return {
        "key": values.get("aws_access_key_id"),
        "secret": values.get("aws_secret_access_key"),
        "token": values.get("aws_session_token"),
        "profile": values.get("profile_name"),
        "client_kwargs": {k: v for k, v in named.items() if v},
    }


def _minio(values: Mapping[str, Any]) -> dict[str, Any]:
    client = values.get("aws_client_parameters") or {}
    named = {"endpoint_url": client.get("endpoint_url"), "region_name": values.get("region_name")}
    return {
        "key": values.get("minio_root_user"),
        "secret": values.get("minio_root_password"),
        "client_kwargs": {k: v for k, v in named.items() if v},
    }


def _gcp(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "token": values.get("service_account_info") or values.get("service_account_file"),
        "project": values.get("project"),
    }


def _azure(values: Mapping[str, Any]) -> dict[str, Any]:
    host = str(values.get("account_url") or "").removeprefix("https://")
    return {
        "connection_string": values.get("connection_string"),
        "account_name": host.partition(".")[0],
        "client_id": values.get("client_id"),
        "tenant_id": values.get("tenant_id"),
        "client_secret": values.get("client_secret"),
    }


_OPTIONS = {
    "aws-credentials": _aws,
    "minio-credentials": _minio,
    "gcp-credentials": _gcp,
    "azure-blob-storage-credentials": _azure,
}
CREDENTIALS = tuple(_OPTIONS)
"""The slugs of the block types that hold credentials for stores."""
