"""Whose turn it is to launch what is due of a scheduler.

Of a thousand schedules that are due in one minute each wakes a run, and all of these find the same
to do. The first one does it; whoever comes meanwhile waits, and finds it done. A turn is a
Variable, of which the server accepts one, and it is given back when all is done: one that is still
there when nobody works tells that somebody has begun, and died over it.
"""

from __future__ import annotations

from clearflow._prefect import runs, variables
from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound
from clearflow.words.models import ACTIVE

_TURN = "clearflow_turn_"


def _name(scheduler: str) -> str:
    return f"{_TURN}{scheduler.replace('-', '')}"


async def take(api: Api, scheduler: str, run: str) -> bool | None:
    """Take the turn for a run: whether nobody can have begun before; None while another works."""
    name = _name(scheduler)
    try:
        await api.post("/variables/", {"name": name, "value": run, "tags": ["clearflow"]})
    except Conflict:
        holder = await variables.read(api, name)
    else:
        return True
    if holder is None or (holder != run and await _works(api, str(holder))):
        return None
    await variables.write(api, name, run)
    return False


async def give_back(api: Api, scheduler: str) -> None:
    """All that was due is done."""
    await variables.delete(api, _name(scheduler))


async def _works(api: Api, run: str) -> bool:
    try:
        state = (await runs.read(api, run)).state
    except NotFound:
        return False
    return state is not None and state.type in ACTIVE
