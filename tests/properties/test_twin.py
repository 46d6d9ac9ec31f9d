"""The twin answers as Prefect does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from clearflow._prefect import pools, runs
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError
from clearflow.words.models import State
from tests.properties.server import POOL, QUEUE, Clock, RealServer, Server, TwinServer

STATES = [
    ("SCHEDULED", "Queued"),
    ("PENDING", "Pending"),
    ("PENDING", "Submitting"),
    ("RUNNING", "Running"),
    ("COMPLETED", "Completed"),
    ("FAILED", "Failed"),
    ("CRASHED", "Crashed"),
    ("CANCELLING", "Cancelling"),
    ("CANCELLED", "Cancelled"),
    ("PAUSED", "Draft"),
]
Say = Callable[[Api, str], Any]
"""Something that is said about one run."""

places = st.sampled_from([None, None, -10, 3600])
forced = st.sampled_from([False, False, False, True])


@st.composite
def proposals(draw: st.DrawFn) -> Say:
    kind, name = draw(st.sampled_from(STATES))
    place, force, mark = draw(places), draw(forced), draw(st.integers(0, 4))
    details: dict[str, Any] = {"transition_id": str(UUID(int=mark))} if mark else {}
    if place is not None:
        details["scheduled_time"] = (Clock.START + timedelta(seconds=place)).isoformat()
    state = {"type": kind, "name": name, "message": f"word {mark}", "state_details": details}

    async def say(api: Api, run: str) -> Any:
        note(f"{kind} {name} place={place} force={force} mark={mark}")
        answer = await api.post(f"/flow_runs/{run}/set_state", {"state": state, "force": force})
        return answer["status"], _told([State.parse(answer["state"])])

    return say


@st.composite
def policies(draw: st.DrawFn) -> Say:
    retries = draw(st.sampled_from([None, 0, 1, 2]))

    async def say(api: Api, run: str) -> Any:
        note(f"retries={retries}")
        await runs.patch(api, run, empirical_policy={"retries": retries, "retry_delay": 0})

    return say


@st.composite
def records(draw: st.DrawFn) -> Say:
    key, delete = f"key-{draw(st.integers(0, 1))}", draw(st.booleans())

    async def say(api: Api, run: str) -> Any:
        path = f"/flow_runs/{run}/input"
        if delete:
            await api.delete(f"{path}/{key}")
        else:
            await api.post(path, {"key": key, "value": "ada"})
        found = await api.post(f"{path}/filter", {"prefix": "key-", "limit": 100})
        return sorted((r["key"], r["value"]) for r in found)

    return say


async def gone(api: Api, run: str) -> None:
    await runs.delete(api, run)


said = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(proposals(), proposals(), proposals(), proposals(), policies(), records()),
    ),
    min_size=3,
    max_size=12,
)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    # Explaining a failure traces every line of Prefect's server.
    phases=set(Phase) - {Phase.explain},
)
@given(said=said, limit=st.sampled_from([None, 0, 1, 2]), goes=st.booleans())
def test_the_twin_answers_as_prefect_does(
    real: RealServer,
    twin: TwinServer,
    said: Sequence[tuple[int, Say]],
    limit: int | None,
    goes: bool,
) -> None:
    if goes:
        said = [*said[:-1], (0, gone), (0, said[-1][1])]
    answers = []
    for server in (real, twin):
        server.reset(limit)
        ids = [server.add(name) for name in "abc"]
        answers.append(server.run(_answers(server, ids, said)))
    assert answers[0] == answers[1]


async def _answers(server: Server, ids: Sequence[str], said: Sequence[tuple[int, Say]]) -> Any:
    api = server.api()
    answers = [await _or_error(say(api, ids[number])) for number, say in said]
    answers += [await _or_error(_seen(api, run)) for run in ids]
    soon = Clock.START + timedelta(seconds=60)
    offered = await pools.offered(api, POOL, [QUEUE], limit=2, before=soon)
    types = {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}
    found = [r async for r in runs.find(api, types, pool=POOL, queue=QUEUE, sort=runs.BY_PLACE)]
    answers.append([r.name for r in offered])
    answers.append(sorted(r.name for r in found))
    answers.append([r.name for r in found if r.place is not None])
    line = [
        r async for r in runs.find(api, runs.placed(), pool=POOL, queue=QUEUE, sort=runs.BY_PLACE)
    ]
    # Who is asked for by place alone is who waits: a place goes with the state SCHEDULED.
    waiting = {r.id for r in found if r.state is not None and r.state.type == "SCHEDULED"}
    assert {r.id for r in line} == waiting
    answers.append([r.name for r in line])
    await api.close()
    return answers


async def _seen(api: Api, run_id: str) -> Any:
    """Everything that claims can know of a run, without the moments in which it came about."""
    run = await runs.read(api, run_id)
    history = await runs.history(api, run_id)
    return {
        "history": _told(history),
        "now": _told([run.state] if run.state else []),
        "place": run.place and run.place.replace(microsecond=0),
        "count": run.run_count,
        "policy": (run.policy.get("retries"), run.policy.get("retry_type")),
    }


def _told(states: Sequence[State]) -> Any:
    return [(s.type, s.name, s.message, s.place and s.place.replace(microsecond=0)) for s in states]


async def _or_error(work: Any) -> Any:
    try:
        return await asyncio.shield(work)
    except ClearflowError as error:
        return type(error).__name__
