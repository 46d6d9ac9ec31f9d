"""Flow runs: read, create, propose states, settle claims."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from clearflow._prefect import bulk
from clearflow._prefect.http import Api
from clearflow._prefect.template import check_variables
from clearflow.errors import NotFound
from clearflow.words.lifecycle import Write
from clearflow.words.models import PAUSED, PENDING, Run, State

PAGE = 200  # the server's limit
BY_PLACE = "NEXT_SCHEDULED_START_TIME_ASC"
NEWEST = "EXPECTED_START_TIME_DESC"
_LIKE = "like"
_KIND = "__prefect_kind"
_DEPLOYMENT = "prefect.deployment.id"
FIRST_PLACE = datetime(1970, 1, 1, tzinfo=UTC)


def _state(write: Write) -> dict[str, Any]:
    details: dict[str, Any] = {"transition_id": str(uuid4())}
    if write.place is not None:
        details["scheduled_time"] = write.place.isoformat()
    state = {
        "type": write.type,
        "name": write.name,
        "message": str(write.note),
        "state_details": details,
    }
    if write.data is not None:
        state["data"] = write.data
    return state


async def read(api: Api, run_id: str) -> Run:
    """One run. Raises NotFound."""
    return Run.parse(await api.get(f"/flow_runs/{run_id}"))


async def history(api: Api, run_id: str) -> list[State]:
    """All states of a run, oldest first."""
    states = await api.get("/flow_run_states/", flow_run_id=run_id)
    parsed = [State.parse(s) for s in states]
    return sorted(parsed, key=lambda s: s.at.timestamp() if s.at else 0.0)


async def find(
    api: Api,
    where: Mapping[str, Any] | None = None,
    *,
    pool: str | None = None,
    queue: str | None = None,
    queue_id: str | None = None,
    sort: str = NEWEST,
    limit: int | None = None,
    offset: int = 0,
) -> AsyncIterator[Run]:
    """Runs that fit a filter of Prefect's, page by page.

    `queue` is the stored name; `queue_id` says the same without naming the pool, and faster.
    """
    body = {"sort": sort, **_within(where, pool, queue, queue_id)}
    seen = 0
    while limit is None or seen < limit:
        size = PAGE if limit is None else min(PAGE, limit - seen)
        page = await api.post("/flow_runs/filter", {**body, "limit": size, "offset": offset + seen})
        for item in page:
            yield Run.parse(item)
        if len(page) < size:
            return
        seen += len(page)


def placed(after: datetime | None = None, before: datetime | None = None) -> dict[str, Any]:
    """The filter for runs that stand between two places, both included; for all without them.

    A run has a place as long as it is SCHEDULED. Asked for that state too, SQLite gathers all who
    are, and sorts them; asked for places alone it walks along them, and stops at the limit.
    """
    bounds = {"after_": (after or FIRST_PLACE).isoformat()}
    if before is not None:
        bounds["before_"] = before.isoformat()
    return {"next_scheduled_start_time": bounds}


async def count(
    api: Api,
    where: Mapping[str, Any],
    *,
    pool: str | None = None,
    queue: str | None = None,
    queue_id: str | None = None,
) -> int:
    return int(await api.post("/flow_runs/count", _within(where, pool, queue, queue_id)))


def _within(
    where: Mapping[str, Any] | None, pool: str | None, queue: str | None, queue_id: str | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"flow_runs": dict(where)} if where else {}
    if pool is not None:
        body["work_pools"] = {"name": {"any_": [pool]}}
    if queue_id is not None:
        body["work_pool_queues"] = {"id": {"any_": [queue_id]}}
    elif queue is not None:
        body["work_pool_queues"] = {"name": {"any_": [queue]}}
    return body


async def resolve(api: Api, task: str) -> Run:
    """The current run of a task, by the task's id or by that of any run it has now.

    Raises NotFound.
    """
    if not is_id(task):
        raise NotFound(
            f"{task!r} is not the id of a task", hint="`clearflow task ls` lists tasks with ids"
        )
    try:
        run = await read(api, task)
    except NotFound:
        run = None
    if run is not None and not may_have_moved(run):
        return run
    # A task that went to another queue lives on in a run that carries its id as a tag.
    moved = [r async for r in find(api, {"tags": {"all_": [f"task:{task}"]}}, limit=PAGE)]
    if moved:
        return max(moved, key=hop)
    if run is None:
        raise NotFound(
            f"there is no task {task}",
            hint="`clearflow task ls` lists tasks with ids;"
            " whoever deletes a deployment deletes the tasks that wait for it",
        )
    return run


def is_id(text: str) -> bool:
    """Whether it has the form of a whole id."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def may_have_moved(run: Run) -> bool:
    """Whether a move to another queue may have stopped halfway: nothing else has two runs."""
    if run.state is None:
        return False
    held = run.state.type == PENDING and run.note.claim is not None and run.note.agent is None
    return held or run.state.type == PAUSED


def hop(run: Run) -> int:
    """How often the task has changed its run: 0 for the first."""
    task, _, number = (run.idempotency_key or "").rpartition(":")
    return int(number) if task == run.task_id and number.isdigit() else 0


async def propose(api: Api, run_id: str, write: Write, *, once: bool = False) -> State | None:
    """Propose a state. The new state, or None when the server keeps or chooses another.

    With `once` it is not proposed again when the answer is lost, as somebody may have written
    meanwhile: Unreachable or ServerError then leave open whether the state was written.

    Raises NotFound when the run is gone.
    """
    accepted, state = await proposed(api, run_id, write, once=once)
    return state if accepted else None


async def proposed(
    api: Api, run_id: str, write: Write, *, once: bool = False
) -> tuple[bool, State | None]:
    """Propose a state: whether it was accepted, and the state in which the server has the run."""
    body = _state(write)
    answer = await api.request(
        "POST",
        f"/flow_runs/{run_id}/set_state",
        {"state": body, "force": write.force},
        once=once,
    )
    found = answer.get("state")
    if not found:
        return False, None
    state = State.parse(found)
    if answer["status"] == "ACCEPT":
        if state.at is not None:
            api.clock.observe(state.at)
        return True, state
    # A repeated request is refused when the first one was accepted and only its answer was lost.
    ours = found["state_details"].get("transition_id") == body["state_details"]["transition_id"]
    return ours, state


async def create(
    api: Api,
    of: Mapping[str, Any],
    *,
    write: Write,
    name: str | None = None,
    queue: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    job_variables: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    labels: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    policy: Mapping[str, Any] | None = None,
    task_run: str | None = None,
) -> Run:
    """A new run of a deployment; the existing one when the idempotency key is known.

    `of` is the deployment as the server tells it, or `like` another run. `task_run` is its place in
    the graph of another run. Raises NotFound when the deployment is gone, and Usage for job
    variables that no machine could read.
    """
    check_variables(job_variables or {})
    body: dict[str, Any] = {
        "state": _state(write),
        "parameters": {**of["parameters"], **(parameters or {})},
        "job_variables": dict(job_variables or {}),
        "tags": sorted({*of["tags"], *tags}),
        # Prefect's own are its to give.
        "labels": {k: v for k, v in (labels or {}).items() if not k.startswith("prefect.")},
    }
    if name:
        body["name"] = name
    if queue and queue != of["work_queue_name"]:
        # Its own one the server does not have to look for.
        body["work_queue_name"] = queue
    if idempotency_key:
        body["idempotency_key"] = idempotency_key
    if policy:
        body["empirical_policy"] = dict(policy)
    if task_run:
        body["parent_task_run_id"] = task_run
    together = bulk.current()
    if together is not None and idempotency_key and name:
        told = {**body, "enforce_parameter_schema": False}
        if _LIKE in of:
            # This route goes by the deployment, whose own queue may be another one than the run's.
            told["work_queue_name"] = queue or of["work_queue_name"]
        where = {key: of[key] for key in ("flow_id", "work_pool_name", "work_queue_name")}
        return Run.parse(
            {"deployment_id": of["id"], **where, **await together.create(of["id"], told)}
        )
    if _KIND in json.dumps(of["parameters"]):
        # Templates and references in them are filled in by this route only.
        told = {**body, "parameters": dict(parameters or {}), "enforce_parameter_schema": False}
        return Run.parse(await api.post(f"/deployments/{of['id']}/create_flow_run", told))
    # The other route has the server check the whole form of the pool each time, which costs it more
    # than all the rest.
    body |= {
        "flow_id": of["flow_id"],
        "deployment_id": of["id"],
        "work_pool_name": of["work_pool_name"],
        "work_queue_name": queue or of["work_queue_name"],
    }
    made = Run.parse(await api.post("/flow_runs/", body))
    if _DEPLOYMENT not in made.labels:
        # It asks nobody whether there is such a deployment, and labels the run only if there is.
        await delete(api, made.id)
        raise NotFound("the deployment of this task has been deleted")
    return made


def like(run: Run) -> dict[str, Any]:
    """The deployment of a run, for one that has all that it has without asking it again."""
    return {
        _LIKE: run.id,
        "id": run.deployment_id,
        "flow_id": run.flow_id,
        "work_pool_name": run.pool,
        "work_queue_name": run.queue,
        "parameters": {},
        "tags": [],
    }


async def create_bare(
    api: Api, run: Run, write: Write, *, pool: str, queue: str, tags: Sequence[str], key: str
) -> Run:
    """A new run like one that has no deployment."""
    body = {
        "flow_id": run.flow_id,
        "name": run.name,
        "state": _state(write),
        "parameters": dict(run.parameters),
        "job_variables": dict(run.job_variables),
        "tags": list(tags),
        "labels": dict(run.labels),
        "empirical_policy": dict(run.policy),
        "idempotency_key": key,
        "work_pool_name": pool,
        "work_queue_name": queue,
    }
    return Run.parse(await api.post("/flow_runs/", body))


async def create_here(
    api: Api,
    *,
    flow: str,
    write: Write,
    name: str,
    parameters: Mapping[str, Any],
    tags: Sequence[str],
    labels: Mapping[str, Any],
) -> Run:
    """A new run that belongs to no queue: somebody runs it already."""
    flow_id = (await api.post("/flows/", {"name": flow}))["id"]
    body = {
        "flow_id": flow_id,
        "name": name,
        "state": _state(write),
        "parameters": dict(parameters),
        "tags": list(tags),
        "labels": dict(labels),
    }
    return Run.parse(await api.post("/flow_runs/", body))


async def patch(api: Api, run_id: str, **changes: Any) -> None:
    """Change parts of a run that Prefect lets change: parameters, tags, name, empirical_policy."""
    await api.patch(f"/flow_runs/{run_id}", changes)


async def label(api: Api, run_id: str, labels: Mapping[str, Any]) -> None:
    """Add labels to a run, or change them."""
    await api.patch(f"/flow_runs/{run_id}/labels", dict(labels))


async def delete(api: Api, run_id: str) -> None:
    """Delete a run; one that is gone already is fine."""
    try:
        await api.delete(f"/flow_runs/{run_id}")
    except NotFound:
        return


async def head_of(api: Api, pool: str, queue: str) -> Run | None:
    """The first of a queue's waiting runs, due or not."""
    where = placed()
    return await anext(find(api, where, pool=pool, queue=queue, sort=BY_PLACE, limit=1), None)
