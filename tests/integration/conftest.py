"""Fixtures of the tests that run agents: a site is a pool with the agents that serve it."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.agents import AgentProcess, Client, Site, client, opened
from tests.support.git import git_daemon
from tests.support.processes import kill_leftovers, marked
from tests.support.server import PrefectServer


@pytest.fixture
def own_site(
    server: PrefectServer,
    prefect_env: dict[str, str],
    tmp_path: Path,
    unique: Callable[[str], str],
    request: pytest.FixtureRequest,
) -> Iterator[Site]:
    """A pool of this test's own on the shared server; who has a laptop sends scripts.

    So do modules that say `SCRIPTS = True`.
    """
    scripts = bool({"laptop", "project"} & set(request.fixturenames))
    scripts |= getattr(request.module, "SCRIPTS", False)
    with opened(server.url, prefect_env, tmp_path, unique("pool"), scripts=scripts) as site:
        yield site


@pytest.fixture
async def own_ask(own_site: Site) -> AsyncIterator[Client]:
    """A client of `own_site`."""
    async with client(own_site) as asking:
        yield asking


@pytest.fixture
def site(own_site: Site) -> Site:
    """The test's own, but in modules that have their tests share one, and its agent."""
    return own_site


@pytest.fixture
async def ask(own_ask: Client) -> Client:
    """A client of `site`."""
    return own_ask


@pytest.fixture(scope="module")
def shared_site(
    server: PrefectServer,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Site]:
    """A pool for the tests of a module; `shared_agent` serves it."""
    scripts = hasattr(request.module, "laptop")
    mark = f"module-{uuid.uuid4().hex[:12]}"
    folder = tmp_path_factory.mktemp("site")
    with marked(mark):
        env = server.env(home=folder / "prefect-home")
        with opened(server.url, env, folder, f"pool-{mark}", scripts=scripts) as site:
            yield site
        left = kill_leftovers(mark)
    assert not left, "left by the module:\n" + "\n".join(map(str, left))


@pytest.fixture(scope="module")
def shared_agent(shared_site: Site) -> AgentProcess:
    """An agent with two slots that serves the queue `q`. Leave it as it is."""
    return shared_site.agent("q", slots=2)


@pytest.fixture
async def shared(shared_site: Site, shared_agent: AgentProcess) -> AsyncIterator[Client]:
    """A client of `shared_site`; a test must leave its queue empty and its agent idle."""
    async with client(shared_site) as asking:
        yield asking
        await asking.idle()
    assert shared_agent.code is None, shared_agent.said()


@pytest.fixture(scope="module")
def remotes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder of repositories, and the address under which other machines reach them."""
    folder = tmp_path_factory.mktemp("remotes")
    with git_daemon(folder) as address:
        yield folder, address
