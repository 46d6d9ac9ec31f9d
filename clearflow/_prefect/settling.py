"""The right to write over the state of a claim: who has it, how to come by it, how to use it.

Prefect has no compare-and-set on a task that somebody has. What stands in for it are settlements,
records of a run of which the server accepts one for each key, and time: whoever may write does so
within a few seconds, once, and looks again before it tries a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from clearflow import clock
from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound, ServerError, Unreachable
from clearflow.words import lifecycle, losing
from clearflow.words.lifecycle import Standing, Write
from clearflow.words.models import State


async def settle(api: Api, run_id: str, token: str, by: str, stale_after: timedelta) -> bool:
    """Become the one who may end a claim, for at least half of `stale_after` from the call on.

    True for the first to ask, and for it again; `by` names one party and no other. A settler may
    die before it acts: its record goes stale after `stale_after`, and then one other takes over,
    with a record of the next generation.
    """
    return await _settle(api, run_id, token, by, stale_after, leased=False)


async def _settle(
    api: Api, run_id: str, token: str, by: str, stale_after: timedelta, *, leased: bool
) -> bool:
    """For a holder with a lease it is enough that nobody else has settled its claim."""
    prefix = losing.settlement(token)
    generation = 0
    if found := await _settlements(api, run_id, token):
        last = max(found, key=lambda key: int(key.removeprefix(prefix)))
        value, created = found[last]
        age = api.clock.now() - created
        if value == by and age < stale_after / 2:
            return True
        if value != by and age < stale_after:
            return False
        generation = int(last.removeprefix(prefix)) + 1
    if leased:
        return True
    key = f"{prefix}{generation}"
    try:
        await api.post(f"/flow_runs/{run_id}/input", {"key": key, "value": by})
    except Conflict:
        # Somebody else's, or this one, accepted before its answer was lost.
        found = await _settlements(api, run_id, token)
        return key in found and found[key][0] == by
    return True


async def _settlements(api: Api, run_id: str, token: str) -> dict[str, tuple[str, datetime]]:
    """The settlements of a claim by key: whose they are, and since when."""
    body = {"prefix": losing.settlement(token), "limit": 100}
    found = await api.post(f"/flow_runs/{run_id}/input/filter", body)
    return {r["key"]: (r["value"], clock.parse(r["created"])) for r in found}


async def release(api: Api, run_id: str, token: str, by: str) -> None:
    """Withdraw a settlement without having acted on it, so that the holder need not wait."""
    for key, (value, _) in (await _settlements(api, run_id, token)).items():
        if value == by:
            with suppress(NotFound):
                await api.delete(f"/flow_runs/{run_id}/input/{key}")


async def history(api: Api, run_id: str, token: str) -> list[State]:
    """All states of a run, oldest first, the one it is in last. Raises NotFound.

    States are told apart by time, and a server stamps one before it gets hold of the run. So when
    two were written at once, or by two servers, the order may be wrong. Before a claim is given up
    for gone, the run itself is asked which state it is in; and when a task seems to have been
    queued again over a request to abort it, which no server accepts: that came later.
    """
    states = await runs.history(api, run_id)
    if (
        not lifecycle.out_of_order(states)
        and lifecycle.standing(states, token)[0] is not Standing.GONE
    ):
        return states
    current = (await runs.read(api, run_id)).state
    if current is None or (states and states[-1].id == current.id):
        return states
    return [*(s for s in states if s.id != current.id), current]


async def write_once(api: Api, run_id: str, write: Write, within: timedelta) -> State | None:
    """Write in time or not at all. None when the state was refused, or may have been written.

    Look at the history before the next try.
    """
    try:
        async with asyncio.timeout(within.total_seconds()):
            return await runs.propose(api, run_id, write, once=True)
    except NotFound:
        return None
    except (TimeoutError, Unreachable, ServerError):
        await asyncio.sleep(min(0.05, within.total_seconds() / 10))
        return None


class Right:
    """One party's right to end a claim.

    A holder has it by its lease: it was heard of so lately that nobody can have declared its claim
    lost, and nobody has settled it before. Otherwise the right belongs to the one who has settled
    the claim. It lasts for a sixth of `stale_after`, and so does a write: together less than the
    third by which a lease is shorter than the silence that a claim is lost for.
    """

    def __init__(
        self,
        api: Api,
        run_id: str,
        token: str,
        by: str,
        stale_after: timedelta,
        leased: Callable[[], bool] | None = None,
    ) -> None:
        self._api, self._run_id, self._token, self._by = api, run_id, token, by
        self._stale_after, self._leased = stale_after, leased
        self._within = stale_after / 6
        self._until: datetime | None = None

    @property
    def valid(self) -> bool:
        return self._until is not None and self._api.clock.now() < self._until

    async def acquire(self, *, settle: bool = True) -> bool:
        """Come by the right; without `settle` by the lease alone."""
        if self.valid:
            return True
        now = self._api.clock.now()
        leased = self._leased is not None and self._leased()
        if not leased and not settle:
            return False
        args = (self._api, self._run_id, self._token, self._by, self._stale_after)
        try:
            if not await _settle(*args, leased=leased):
                return False
        except NotFound:
            # The run has been deleted, as its history will tell.
            return False
        self._until = now + self._within
        return True

    async def write(self, write: Write) -> State | None:
        """Use the right. None when it has run out, the state was refused, or one cannot know."""
        if not self.valid:
            return None
        return await write_once(self._api, self._run_id, write, self._within)

    async def pause(self) -> None:
        """Before the next try, when the right was not to be had."""
        await asyncio.sleep(min(1.0, self._stale_after.total_seconds() / 30))
