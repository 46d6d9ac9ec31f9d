"""The application `search`: parameters, searched by trials that are tasks."""

from __future__ import annotations

from prefect import flow, get_run_logger

from clearflow._prefect import runs
from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.automation.search import starting
from clearflow.automation.search.engine import Search
from clearflow.automation.search.settings import SearchSettings


async def check(settings: SearchSettings) -> None:
    """What can be known before it runs. Raises as `starting.check`."""
    async with Api(connection()) as api:
        await starting.check(api, settings)


@flow(name="clearflow-search")
async def search(settings: SearchSettings) -> str | None:
    """Searches parameters; goes on where it has stopped. The task of the best trial."""
    from prefect.runtime import flow_run

    async with Api(connection(), give_up_after=None) as api:
        run = await runs.read(api, str(flow_run.id))
        say = get_run_logger().info
        for doubt in await starting.check(api, settings):
            say(doubt)
        best = await Search(api, run, settings, say).run()
    return best.task if best is not None else None
