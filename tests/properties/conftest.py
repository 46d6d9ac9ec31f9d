"""Prefect's API in this process, shared by the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.properties.server import RealServer, TwinServer, real_server, twin_server


@pytest.fixture(scope="session")
def real(template_database: Path) -> Iterator[RealServer]:
    """Prefect's own API; `real.run` runs what talks to it."""
    with real_server(template_database) as server:
        yield server


@pytest.fixture
def twin() -> Iterator[TwinServer]:
    """Its twin."""
    with twin_server() as server:
        yield server
