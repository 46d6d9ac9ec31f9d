"""The server of the tests, as clearflow starts it: it keeps its data, fires, and has room."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.schedules import IntervalSchedule
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.support.server import PrefectServer
from tests.support.waiting import wait_until_async


def test_the_shared_server_answers(server: PrefectServer) -> None:
    assert httpx.get(f"{server.url}/health").json() is True


def test_a_server_has_the_block_types_of_prefect(server: PrefectServer) -> None:
    found = httpx.get(f"{server.url}/block_types/slug/secret")
    assert found.json()["name"] == "Secret"


async def test_the_server_takes_what_the_client_leaves_out(server: PrefectServer) -> None:
    """The client sends `null` for it, which fastapi from 0.151 on refuses."""
    with server.in_use():
        async with get_client() as client:
            await client.read_flow_runs()


def test_data_survives_a_kill(fresh_server: PrefectServer) -> None:
    made = httpx.post(f"{fresh_server.url}/variables/", json={"name": "kept", "value": 7})
    assert made.is_success

    fresh_server.kill()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{fresh_server.url}/health")
    fresh_server.start()

    assert httpx.get(f"{fresh_server.url}/variables/name/kept").json()["value"] == 7


async def test_who_writes_stands_in_line_and_is_not_sent_away(
    server: PrefectServer, unique: Callable[[str], str]
) -> None:
    """A stock server on SQLite tells every fifth of them to come again, some for half a minute."""
    pool = unique("pool")
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        (await http.post("/work_pools/", json={"name": pool})).raise_for_status()
        flow = (await http.post("/flows/", json={"name": pool})).json()["id"]
        refused = []

        async def post(path: str, body: dict[str, object]) -> httpx.Response:
            while True:
                try:
                    answer = await http.post(path, json=body)
                except httpx.ReadError:
                    # The server closes the connection on which it has refused something: where the
                    # next request is quicker than that, it is refused so.
                    continue
                if answer.is_success:
                    return answer
                assert answer.status_code == 503, answer.text
                refused.append(path)

        async def work() -> None:
            state: dict[str, object] = {"type": "SCHEDULED"}
            for _ in range(4):
                run = (await post("/flow_runs/", {"flow_id": flow, "state": state})).json()["id"]
                for name in ("PENDING", "RUNNING", "COMPLETED"):
                    await post(f"/flow_runs/{run}/set_state", {"state": {"type": name}})

        async def beat(number: int) -> None:
            for _ in range(10):
                await post(f"/work_pools/{pool}/workers/heartbeat", {"name": f"w{number}"})

        await asyncio.gather(*(work() for _ in range(8)), *(beat(n) for n in range(4)))
        # What the server writes for itself does not stand in the line.
        assert len(refused) < 10, refused


async def test_more_than_a_hundred_streams_leave_room_for_requests(server: PrefectServer) -> None:
    """Each agent and each running flow has one; a stock server on SQLite answers nobody then."""
    address = f"{server.url.replace('http', 'ws', 1)}/events/out"
    async with contextlib.AsyncExitStack() as streams:
        for _ in range(110):
            stream = connect(address, subprotocols=[Subprotocol("prefect")], open_timeout=60)
            await streams.enter_async_context(stream)
        async with httpx.AsyncClient(timeout=60) as http:
            assert (await http.get(f"{server.url}/health")).is_success


async def fires_a_schedule(server: PrefectServer, name: str) -> None:
    """Deploy with a schedule and wait for the run that the server makes of it."""
    with server.in_use():
        async with get_client() as client:
            flow_id = await client.create_flow_from_name(name)
            schedule = IntervalSchedule(interval=timedelta(seconds=1))
            deployment_id: UUID = await client.create_deployment(
                flow_id, name, schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)]
            )
            this_one = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
            runs = await wait_until_async(
                lambda: client.read_flow_runs(deployment_filter=this_one),
                timeout=60,
                what="the scheduler to make a run (SQLAlchemy 2.1 stops it)",
            )
            assert runs[0].auto_scheduled
            await client.delete_deployment(deployment_id)


async def test_a_schedule_fires(server: PrefectServer, unique: Callable[[str], str]) -> None:
    await fires_a_schedule(server, unique("every-second"))


async def test_a_schedule_fires_on_postgres(
    postgres_server: PrefectServer, unique: Callable[[str], str]
) -> None:
    assert "postgresql" in postgres_server.database_url
    await fires_a_schedule(postgres_server, unique("every-second"))
