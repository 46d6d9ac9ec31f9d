"""`clearflow-launch`: the flow that schedules wake, and that launches what is due."""

from __future__ import annotations

from prefect import flow, get_run_logger

from clearflow._prefect import runs
from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.automation.firing import fire
from clearflow.automation.jobs import Firing
from clearflow.errors import ClearflowError


@flow(name="clearflow-launch")
async def launch(firing: Firing) -> None:
    """Launch what is due of a scheduler, each fire once; also what was missed before."""
    from prefect.runtime import flow_run

    async with Api(connection(), give_up_after=None) as api:
        run = await runs.read(api, str(flow_run.id))
        failed = await fire(api, run, firing, get_run_logger().info)
    if failed:
        raise ClearflowError(f"{failed} of what was due could not be launched: see above")
