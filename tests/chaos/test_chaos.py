"""Chaos in small: real agents, real faults, and a referee that must find nothing.

For more of it, and other seeds: `python -m tests.chaos.driver --help`.
"""

from pathlib import Path

import pytest

from tests.chaos import driver
from tests.chaos.driver import Outcome
from tests.chaos.plan import Plan
from tests.support.docker import DockerEngine
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder; its name is told when a test fails."""
    place = tmp_path / "chaos"
    place.mkdir()
    return place


def told(outcome: Outcome) -> str:
    print(outcome)
    return f"see {outcome.folder}\n{outcome}"


async def test_nothing_is_lost_doubled_or_left_over(folder: Path) -> None:
    outcome = await driver.chaos(Plan(seed=1, tasks=16, agents=3, minutes=0.4), folder)

    assert not outcome.violations, told(outcome)
    assert outcome.faults.total() > 10, told(outcome)


async def test_no_container_is_lost_doubled_or_left_over(folder: Path) -> None:
    plan = Plan(seed=6, tasks=12, agents=3, minutes=0.4, scripts=True, docker=True)
    # An Engine of its own and not the fixture's: with the mark `docker` it would run twice.
    with DockerEngine() as engine:
        engine.make_image()
        outcome = await driver.chaos(plan, folder, engine=engine)

    assert not outcome.violations, told(outcome)
    assert outcome.faults.total() > 10, told(outcome)
    assert outcome.starts, told(outcome)


async def test_no_script_is_lost_doubled_or_left_over_on_postgres(folder: Path) -> None:
    plan = Plan(seed=2, tasks=16, agents=3, minutes=0.4, scripts=True)
    # A cluster of its own and not the fixture's: with the mark `postgres` it would run twice.
    with PostgresServer() as cluster:
        url = cluster.create_database("chaos")
        outcome = await driver.chaos(plan, folder, url)

    assert not outcome.violations, told(outcome)
    assert outcome.faults.total() > 10, told(outcome)


async def test_exclusive_tasks_do_not_overlap_while_their_machine_is_cut_off(folder: Path) -> None:
    plan = Plan(seed=3, tasks=9, exclusive=True, agents=3, minutes=0.5)

    outcome = await driver.chaos(plan, folder)

    assert not outcome.violations, told(outcome)
    assert outcome.faults["long hole"] > 0, told(outcome)


async def test_the_referee_finds_out_when_nothing_is_fenced(folder: Path) -> None:
    # Whether two attempts meet is up to the moment: on a busy machine not in every run.
    for seed in (4, 14, 24):
        plan = Plan(seed=seed, tasks=16, agents=3, exclusive=True, fence=False, minutes=0.75)
        place = folder / str(seed)
        place.mkdir()
        outcome = await driver.chaos(plan, place)
        if outcome.violations:
            break

    assert {v.kind for v in outcome.violations} & {"overlap", "double end"}, told(outcome)
