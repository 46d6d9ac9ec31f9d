"""A twin of Prefect's API in plain Python: the part that claims use, a hundred times as fast.

`test_twin.py` holds it against the real one, so that it cannot lie.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from clearflow.clock import parse
from clearflow.words.models import FINAL, State

Json = dict[str, Any]


@dataclass
class TwinRun:
    """A run, with its states in the order in which they were written."""

    id: str
    name: str
    created: datetime
    states: list[Json] = field(default_factory=list)
    parsed: list[State] = field(default_factory=list)
    place: datetime | None = None
    expected: datetime | None = None
    run_count: int = 0
    policy: Json = field(default_factory=dict)
    inputs: dict[str, Json] = field(default_factory=dict)

    @property
    def state(self) -> Json:
        return self.states[-1]


class Twin(httpx.AsyncBaseTransport):
    """One pool with one queue and one deployment."""

    def __init__(self, now: Callable[[], datetime], pool: str, queue: str) -> None:
        self._now, self._pool, self._queue = now, pool, queue
        self.runs: dict[str, TwinRun] = {}
        self.limit: int | None = None
        self.written = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = [part for part in request.url.path.split("/") if part]
        body = json.loads(request.content) if request.content else {}
        try:
            status, answer = self._answer(request, path, body)
        except KeyError:
            status, answer = 404, {"detail": "not found"}
        content = b"" if answer is None else json.dumps(answer, default=str).encode()
        return httpx.Response(status, content=content, request=request)

    def _answer(self, request: httpx.Request, path: list[str], body: Json) -> tuple[int, Any]:
        match [request.method, *path]:
            case ["GET", "flow_runs", run]:
                return 200, self._shown(self.runs[run])
            case ["GET", "flow_run_states"]:
                found = self.runs.get(request.url.params["flow_run_id"])
                return 200, found.states if found else []
            case ["POST", "flow_runs", "filter"]:
                return 200, [self._shown(r) for r in self._filtered(body)]
            case ["POST", "work_pools", _, "get_scheduled_flow_runs"]:
                return 200, [
                    {"work_queue_id": "q", "flow_run": self._shown(r)} for r in self._offered(body)
                ]
            case ["POST", "flow_runs", run, "set_state"]:
                status, state = self._orchestrate(self.runs[run], body["state"], body["force"])
                return 200, {"status": status, "state": state}
            case ["PATCH", "flow_runs", run]:
                self.runs[run].policy = body["empirical_policy"]
                return 204, None
            case ["DELETE", "flow_runs", run]:
                del self.runs[run]
                return 204, None
            case ["POST", "flow_runs", run, "input"]:
                inputs = self.runs[run].inputs
                if body["key"] in inputs:
                    return 409, {"detail": "exists"}
                inputs[body["key"]] = {**body, "created": self._now().isoformat()}
                return 201, None
            case ["POST", "flow_runs", run, "input", "filter"]:
                known = self.runs[run].inputs if run in self.runs else {}
                return 200, [r for k, r in known.items() if k.startswith(body["prefix"])]
            case ["DELETE", "flow_runs", run, "input", key]:
                del self.runs[run].inputs[key]
                return 204, None
            case other:
                raise AssertionError(f"the twin does not know {other}")

    def create(self, name: str, state: Json) -> str:
        run = TwinRun(str(uuid4()), name, self._now())
        self.runs[run.id] = run
        self._write(run, state)
        return run.id

    def states(self) -> dict[str, list[State]]:
        """The states of every run, in the order in which they were written."""
        return {r.id: list(r.parsed) for r in self.runs.values()}

    def _shown(self, run: TwinRun) -> Json:
        return {
            "id": run.id,
            "name": run.name,
            "state": run.state,
            "state_id": run.state["id"],
            "state_type": run.state["type"],
            "state_name": run.state["name"],
            "work_pool_name": self._pool,
            "work_queue_name": self._queue,
            "work_queue_id": "q",
            "deployment_id": "d",
            "next_scheduled_start_time": run.place and run.place.isoformat(),
            "expected_start_time": run.expected and run.expected.isoformat(),
            "created": run.created.isoformat(),
            "empirical_policy": run.policy,
            "run_count": run.run_count,
            "tags": [],
        }

    def _filtered(self, body: Json) -> list[TwinRun]:
        where = body["flow_runs"]
        if "next_scheduled_start_time" in where:
            after = parse(where["next_scheduled_start_time"]["after_"])
            found = [r for r in self.runs.values() if r.place is not None and r.place >= after]
        else:
            types = where["state"]["type"]["any_"]
            found = [r for r in self.runs.values() if r.state["type"] in types]
        if body["sort"] == "NEXT_SCHEDULED_START_TIME_ASC":
            found.sort(key=lambda r: r.place or r.created)
        start = body["offset"]
        return found[start : start + body["limit"]]

    def _offered(self, body: Json) -> list[TwinRun]:
        before = parse(body["scheduled_before"]) if "scheduled_before" in body else None
        waiting = [
            (run.place, run)
            for run in self.runs.values()
            if run.state["type"] == "SCHEDULED"
            and run.place is not None
            and run.policy.get("retry_type") != "in_process"
            and (before is None or run.place <= before)
        ]
        room = int(body["limit"])
        if self.limit is not None:
            busy = sum(r.state["type"] in {"PENDING", "RUNNING"} for r in self.runs.values())
            room = min(room, max(0, self.limit - busy))
        return [run for _, run in sorted(waiting, key=lambda pair: pair[0])[:room]]

    def _orchestrate(self, run: TwinRun, new: Json, force: bool) -> tuple[str, Json]:
        """The rules of `CoreFlowPolicy`, or of `MinimalFlowPolicy` for a forced state."""
        old = run.state
        was, becomes = old["type"], new["type"]
        if (was, becomes) == ("SCHEDULED", "CANCELLING"):
            if not force and _same_transition(old, new):
                return "REJECT", old
            cancelled = {"type": "CANCELLED", "name": "Cancelled", "message": None}
            return "REJECT", self._write(run, {**cancelled, "state_details": {}})
        if force:
            return "ACCEPT", self._write(run, new)
        if _same_transition(old, new):
            return "REJECT", old
        if was in FINAL and becomes in {"CANCELLING", "PAUSED", "CRASHED"}:
            return "ABORT", old
        if was == "CANCELLING" and becomes != "CANCELLED":
            return "REJECT", old
        if becomes == "PENDING" and was in {"PENDING", "CANCELLING", "RUNNING", "CANCELLED"}:
            renamed = was == "PENDING" and new["name"] not in {old["name"], "Pending"}
            if not renamed:
                return "ABORT", old
        if becomes == "PAUSED" and was != "RUNNING":
            return "REJECT", old
        if was == "PAUSED" and becomes in {"PENDING", "PAUSED"}:
            return "REJECT", old
        details = new.setdefault("state_details", {})
        if (was, becomes) == ("PENDING", "PENDING"):
            details["scheduled_time"] = old["state_details"].get("scheduled_time")
        if (was, becomes) == ("SCHEDULED", "PENDING"):
            details.setdefault("scheduled_time", old["state_details"].get("scheduled_time"))
        if was in {"SCHEDULED", "PENDING"} and becomes == "RUNNING" and self._too_early(old):
            return "WAIT", old
        if was in FINAL and becomes not in FINAL:
            retry = "reschedule" if becomes == "SCHEDULED" else None
            run.policy = {**run.policy, "retry_type": retry, "resuming": False}
        if was == "PAUSED":
            written = self._write(run, new)
            run.policy = {**run.policy, "resuming": True}
            return "ACCEPT", written
        if was == "RUNNING" and becomes == "FAILED":
            retries = run.policy.get("retries")
            if retries is not None and run.run_count <= retries:
                run.policy = {**run.policy, "retry_type": "in_process", "resuming": False}
                again = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": new["message"]}
                return "REJECT", self._write(run, {**again, "state_details": {}})
            run.policy = {**run.policy, "retry_type": None}
        return "ACCEPT", self._write(run, new)

    def _too_early(self, old: Json) -> bool:
        place = old["state_details"].get("scheduled_time")
        return place is not None and parse(place) - self._now() > timedelta(seconds=0.5)

    def _write(self, run: TwinRun, state: Json) -> Json:
        now = self._now()
        details = dict(state.get("state_details") or {})
        if state["type"] == "SCHEDULED" and not details.get("scheduled_time"):
            details["scheduled_time"] = now.isoformat()
        written = {
            "id": str(uuid4()),
            "type": state["type"],
            "name": state["name"],
            "message": state.get("message"),
            "data": state.get("data"),
            "timestamp": now.isoformat(),
            "state_details": details,
        }
        run.states.append(written)
        run.parsed.append(State.parse(written))
        self.written += 1
        place = details.get("scheduled_time") if state["type"] == "SCHEDULED" else None
        run.place = parse(place) if place else None
        run.expected = run.expected or run.place or now
        if state["type"] == "RUNNING" and not run.policy.get("resuming"):
            run.run_count += 1
        if state["type"] == "RUNNING" or state["type"] in FINAL:
            run.policy = {**run.policy, "resuming": False}
        return written


def _same_transition(old: Json, new: Json) -> bool:
    mark = new["state_details"].get("transition_id")
    return mark is not None and old["state_details"].get("transition_id") == mark
