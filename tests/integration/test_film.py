"""The film: four agents, twenty tasks, and people who change the order while they run.

Every scene is checked in the states, in the order that is shown, and by the requests that the
pages of Prefect's own UI make.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from clearflow._prefect import pools, runs
from clearflow.queues import line, moves
from clearflow.queues.line import Spot, Where
from clearflow.tasks import abort
from clearflow.words.names import stored
from tests.support.agents import Client, Site
from tests.support.gates import closed, open_gate
from tests.support.waiting import wait_until_async

AGENTS, TASKS = 4, 20


@dataclass
class Film:
    """Twenty tasks in a queue, by their numbers."""

    ask: Client
    pool: str
    folder: Path
    ids: list[str]

    async def running(self) -> dict[int, str]:
        """The numbers of the running tasks, and who runs them."""
        now = self.ask.api.clock.now()
        return {
            self.ids.index(run.id): run.note.agent or ""
            async for run in runs.find(self.ask.api, {"id": {"any_": self.ids}})
            if run.status(now) == "running"
        }

    async def until_running(self, *numbers: int) -> dict[int, str]:
        async def look() -> dict[int, str] | None:
            found = await self.running()
            return found if set(found) == set(numbers) else None

        found = await wait_until_async(look, 60, what=f"{numbers} to be the running tasks")
        assert found is not None
        return found

    async def line(self) -> list[int]:
        """The numbers of those who wait, as `clearflow queue show` orders them."""
        queue = await pools.queue(self.ask.api, self.pool, "cpu")
        return [self.ids.index(r.id) async for r in line.waiting(self.ask.api, queue.id)]

    async def ui_line(self) -> list[int]:
        """The same by the request of the Prefect UI's page of a work queue."""
        page = await self.ask.api.post(
            "/flow_runs/paginate",
            {
                "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
                "work_pools": {"name": {"any_": [self.pool]}},
                "work_pool_queues": {"name": {"any_": [stored("cpu")]}},
                "sort": "NEXT_SCHEDULED_START_TIME_ASC",
                "limit": 50,
            },
        )
        return [self.ids.index(item["id"]) for item in page["results"]]

    async def ui_counts(self) -> dict[str, int]:
        """How many runs of each state name the UI counts in the pool."""
        counts = {}
        for name in ("Queued", "Running", "Cancelled", "Completed"):
            counts[name] = await self.ask.api.post(
                "/flow_runs/count",
                {
                    "flow_runs": {"state": {"name": {"any_": [name]}}},
                    "work_pools": {"name": {"any_": [self.pool]}},
                },
            )
        return counts

    async def check_line(self, *expected: int) -> None:
        assert await self.line() == list(expected)
        assert await self.ui_line() == list(expected)

    def tell(self, number: int) -> None:
        """Have a running task end."""
        open_gate(self.folder / f"task {number}.go")


@pytest.mark.timeout(600)
async def test_the_film(site: Site, ask: Client, tmp_path: Path) -> None:
    starting = [site.agent("cpu", name=f"{site.pool}:{n}", wait=False) for n in range(AGENTS)]
    agents = [agent.serving() for agent in starting]
    ids = []
    for number in range(TASKS):
        name = f"task {number}"
        closed(tmp_path / f"{name}.go")
        parameters = {"folder": str(tmp_path), "name": name}
        ids.append(await ask.enqueue("patient.py:until_told", "cpu", parameters, name=name))
    film = Film(ask, site.pool, tmp_path, ids)
    queue = await pools.queue(ask.api, site.pool, "cpu")

    # Four agents have the first four, one each; sixteen wait in the order they came.
    owners = await film.until_running(0, 1, 2, 3)
    assert sorted(owners.values()) == sorted(a.name for a in agents)
    await film.check_line(*range(4, 20))
    assert await film.ui_counts() == {"Queued": 16, "Running": 4, "Cancelled": 0, "Completed": 0}

    # Task 18 goes to the front.
    await moves.move(
        ask.api, [await ask.run(ids[18])], Where(Spot.FRONT), queue=queue, by="the director"
    )
    await film.check_line(18, *range(4, 18), 19)
    assert "the director" in (await ask.run(ids[18])).note.text

    # Task 0 is aborted; its agent takes 18.
    await abort.abort(ask.api, [await ask.run(ids[0])], by="the director")
    aborted = await ask.ended(ids[0])
    assert aborted.status(ask.api.clock.now()) == "aborted"
    assert "aborted by the director" in aborted.note.text
    now_running = await film.until_running(1, 2, 3, 18)
    assert now_running[18] == owners[0]
    await film.check_line(*range(4, 18), 19)
    assert await film.ui_counts() == {"Queued": 15, "Running": 4, "Cancelled": 1, "Completed": 0}

    # A fifth agent joins and takes the next.
    fifth = site.agent("cpu", name=f"{site.pool}:4")
    assert (await film.until_running(1, 2, 3, 18, 4))[4] == fifth.name
    await film.check_line(*range(5, 18), 19)
    workers = await ask.api.post(f"/work_pools/{site.pool}/workers/filter", {"limit": 50})
    assert {w["name"] for w in workers if w["status"] == "ONLINE"} == {
        *(a.name for a in agents),
        fifth.name,
    }

    # All end, each once, in the order of the line.
    for number in range(TASKS):
        film.tell(number)
    started = []
    for number, run_id in enumerate(ids[1:], 1):
        run = await ask.ended(run_id, timeout=120)
        assert run.status(ask.api.clock.now()) == "completed"
        assert (run.run_count, run.note.attempt) == (1, 1), await ask.report(run_id)
        started.append((run.started, number))
    order = [number for _, number in sorted(started)]
    # Agents that take at the same moment may start in either order, so each is near its place.
    expected = [1, 2, 3, 18, *range(4, 18), 19]
    assert all(abs(order.index(n) - expected.index(n)) <= AGENTS for n in expected), order
    assert await film.ui_counts() == {"Queued": 0, "Running": 0, "Cancelled": 1, "Completed": 19}
