"""Files that look like secrets: they do not travel unless somebody names them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from pathlib import Path

NAMES = (
    ".env",
    ".env.*",
    "*.pem",
    "*.p12",
    "*.pfx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*credentials*.json",
    ".netrc",
    ".pgpass",
    ".pypirc",
)
HARMLESS = ("*.pub", "*.example", "*.sample", "*.template", "*.dist")
_KEY = b"PRIVATE KEY-----"
_LOOKED_AT = 65_536  # bytes: keys are smaller


def found(root: Path, names: Iterable[str]) -> list[str]:
    """Those of the files that look like secrets, by name or by what stands in them."""
    return [name for name in names if _by_name(name) or _by_content(root / name)]


def _by_name(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    return _fits(name, NAMES) and not _fits(name, HARMLESS)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _by_content(file: Path) -> bool:
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _LOOKED_AT:
            return False
        return any(_KEY in line for line in _begins(file.read_bytes()))
    except OSError:
        return False


def _begins(content: bytes) -> Iterator[bytes]:
    """Lines that open a block of a PEM file."""
    return (line for line in content.splitlines() if line.startswith(b"-----BEGIN "))
