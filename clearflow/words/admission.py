"""Concurrency limits, kept exactly: whether a claim fits under the limit of its queue or pool."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from clearflow.words.lifecycle import is_hold
from clearflow.words.models import PENDING, RUNNING, Run


class Admission(enum.Enum):
    """Whether a claim fits under a concurrency limit."""

    KEEP = "keep"
    YIELD = "yield"
    WAIT = "wait"  # a later claim has not settled yet: look again


def admission(limit: int | None, mine: str, active: Iterable[Run]) -> Admission:
    """Decide on a claim, after it was written, by the runs that hold a slot of the limit.

    Prefect offers tasks under a limit but does not check it when they are taken, so two agents
    can pass it together. Claims are ranked by (time of the claim, id); those beyond the limit
    yield. Only an unsettled claim (state `Pending`) ever yields, and a claim within the limit
    waits until the ones behind it have yielded or started, in which case it yields itself: so
    whoever commits last sees everybody, and the limit holds exactly. Who only holds a task to
    move it takes no slot.
    """
    if limit is None:
        return Admission.KEEP
    runs = [
        r
        for r in active
        if r.state is not None and r.state.type in {PENDING, RUNNING} and not is_hold(r.state)
    ]
    others = [r for r in runs if r.id != mine]
    started = [r for r in others if r.state is not None and r.state.type == RUNNING]
    if len(started) >= limit:
        return Admission.YIELD
    if len(others) < limit:
        return Admission.KEEP
    me = next((r for r in runs if r.id == mine), None)
    if me is None:
        return Admission.YIELD
    ahead = [r for r in others if r not in started and _claim_rank(r) < _claim_rank(me)]
    if len(started) + len(ahead) >= limit:
        return Admission.YIELD
    return Admission.WAIT


def _claim_rank(run: Run) -> tuple[float, str]:
    at = run.state.at if run.state else None
    return (at.timestamp() if at else 0.0, run.id)
