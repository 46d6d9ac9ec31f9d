"""`clearflow-trigger`: the flow that automations run when something has happened."""

from __future__ import annotations

from prefect import flow, get_run_logger

from clearflow._prefect import runs
from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.automation.reacting import catch_up, react
from clearflow.automation.reactions import Reaction
from clearflow.errors import ClearflowError


@flow(name="clearflow-trigger")
async def trigger(reaction: Reaction) -> None:
    """Launch what an event asks for, once; without one, what was missed."""
    from prefect.runtime import flow_run

    say = get_run_logger().info
    async with Api(connection(), give_up_after=None) as api:
        if reaction.trigger is not None and reaction.event is not None:
            failed = await react(api, reaction, say)
        else:
            failed = await catch_up(api, await runs.read(api, str(flow_run.id)), say)
    if failed:
        raise ClearflowError(f"{failed} of what was due could not be launched: see above")
