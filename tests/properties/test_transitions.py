"""What Prefect lets one write over what: the facts that `words/lifecycle.py` stands on."""

from collections.abc import Awaitable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from clearflow._prefect import claims, pools, runs
from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound
from clearflow.words import lifecycle, losing
from clearflow.words.lifecycle import Write
from clearflow.words.models import Run, State
from clearflow.words.notes import Note
from tests.properties.server import POOL, QUEUE, RealServer

T = TypeVar("T")

WAYS = {
    "SCHEDULED": [],
    "PENDING": ["PENDING"],
    "RUNNING": ["PENDING", "RUNNING"],
    "COMPLETED": ["PENDING", "RUNNING", "COMPLETED"],
    "FAILED": ["PENDING", "RUNNING", "FAILED"],
    "CRASHED": ["PENDING", "RUNNING", "CRASHED"],
    "CANCELLING": ["PENDING", "RUNNING", "CANCELLING"],
    "CANCELLED": ["PENDING", "RUNNING", "CANCELLING", "CANCELLED"],
    "DRAFT": ["DRAFT"],
}
"""How a run gets into a state."""


class Task:
    """A run on the real API, and the words to move it."""

    def __init__(self, server: RealServer, api: Api) -> None:
        self.server, self.api = server, api
        self.run = self(runs.read(api, server.add("task")))

    def __call__(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.server.run(awaited())

    def propose(self, kind: str, *, force: bool = False, text: str = "") -> State | None:
        name = {"SCHEDULED": "Queued", "DRAFT": "Draft"}.get(kind, kind.title())
        kind = "PAUSED" if kind == "DRAFT" else kind
        force = force or name == "Draft"
        return self(runs.propose(self.api, self.run.id, Write(kind, name, Note(text), force=force)))

    def bring(self, state: str) -> None:
        for step in WAYS[state]:
            assert self.propose(step) is not None, step

    def read(self) -> Run:
        return self(runs.read(self.api, self.run.id))


@pytest.fixture
def api(real: RealServer) -> Iterator[Api]:
    real.reset()
    api = real.api()
    yield api
    real.run(api.close())


@pytest.fixture
def task(real: RealServer, api: Api) -> Task:
    return Task(real, api)


ALL = [state for state in WAYS if state != "DRAFT"]
FROM_ACTIVE = {state for state in ALL if state not in {"PENDING", "PAUSED"}}
FROM_ENDED = {"SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"}
ACCEPTED = {
    # From: what Prefect accepts, unforced. Whatever is not here it refuses.
    "SCHEDULED": {"SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"},
    "PENDING": FROM_ACTIVE,
    "RUNNING": FROM_ACTIVE,
    "COMPLETED": FROM_ENDED,
    "FAILED": FROM_ENDED,
    "CRASHED": FROM_ENDED,
    "CANCELLING": {"CANCELLED"},
    "CANCELLED": {"SCHEDULED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"},
    "DRAFT": {"SCHEDULED", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLING", "CANCELLED"},
}


@pytest.mark.parametrize("before", ACCEPTED)
def test_what_prefect_accepts(real: RealServer, api: Api, before: str) -> None:
    accepted = set()
    for after in ALL:
        task = Task(real, api)
        task.bring(before)
        if task.propose(after) is not None:
            accepted.add(after)
    assert accepted == ACCEPTED[before]


def test_a_take_is_accepted_from_one_party_only(task: Task) -> None:
    ours = lifecycle.claimed(task.run, "box:0", "ours")
    theirs = lifecycle.claimed(task.run, "tower:0", "theirs")
    assert task(claims.take(task.api, task.run, ours))
    assert not task(claims.take(task.api, task.run, theirs))
    assert task.read().note.claim == "ours"


def test_pending_by_another_name_is_let_through(task: Task) -> None:
    """The reason why a take has to be named exactly `Pending`."""
    task.bring("PENDING")
    moving = Write("PENDING", "Moving", Note())
    assert task(runs.propose(task.api, task.run.id, moving)) is not None


def test_a_taken_task_remembers_its_place(task: Task) -> None:
    place = task.run.place
    task.bring("PENDING")
    taken = task.read()
    assert taken.place is None
    assert taken.state is not None
    assert taken.state.place == place


def test_a_waiting_task_is_cancelled_at_once_but_without_the_note(task: Task) -> None:
    assert task.propose("CANCELLING", text="aborted by ada") is None
    state = task.read().state
    assert state is not None
    assert (state.type, state.message) == ("CANCELLED", "")


@pytest.mark.parametrize("after", ["RUNNING", "SCHEDULED", "COMPLETED"])
def test_force_overrules_an_abort(task: Task, after: str) -> None:
    """The reason why only the end of a task that had ended is forced, and the way of a draft."""
    task.bring("CANCELLING")
    assert task.propose(after, force=True) is not None


@pytest.mark.parametrize("before", ["SCHEDULED", "PENDING"])
def test_only_force_makes_a_draft(task: Task, before: str) -> None:
    task.bring(before)
    draft = Write("PAUSED", "Draft", Note())
    assert task(runs.propose(task.api, task.run.id, draft)) is None
    assert task.propose("DRAFT") is not None


@pytest.mark.parametrize(("force", "counted"), [(True, 1), (False, 0)])
def test_a_draft_queued_without_force_counts_as_resumed(
    task: Task, force: bool, counted: int
) -> None:
    task.bring("DRAFT")
    for kind in ("SCHEDULED", "PENDING", "RUNNING"):
        assert task.propose(kind, force=force and kind == "SCHEDULED") is not None
    assert task.read().run_count == counted


def test_a_repeated_request_is_told_apart_from_a_lost_race(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "uuid4", lambda: "6f2c9a52-3f0e-4d57-9b44-0f4bb1a5a4a1")
    write = lifecycle.claimed(task.run, "box:0", "ours")
    assert task(runs.propose(task.api, task.run.id, write)) is not None
    assert task(runs.propose(task.api, task.run.id, write)) is not None
    assert len(task(runs.history(task.api, task.run.id))) == 2


def test_a_failed_flow_with_retries_is_kept_for_its_process(task: Task) -> None:
    task(runs.patch(task.api, task.run.id, empirical_policy={"retries": 2, "retry_delay": 0}))
    task.bring("PENDING")
    note = Note("running", agent="box:0", claim="ours")
    task(runs.propose(task.api, task.run.id, lifecycle.running(note)))
    failed = Write("FAILED", "Failed", note.but("boom"))
    assert task(runs.propose(task.api, task.run.id, failed)) is None
    between = task.read()
    assert between.retrying_in_process
    assert between.note == note.but("boom")
    assert task(pools.offered(task.api, POOL, [QUEUE], limit=5)) == []

    # Lost then, it is not offered to anybody either, until its policy is mended.
    queued = lifecycle.queued(Note("lost"))
    assert task(runs.propose(task.api, task.run.id, queued)) is not None
    assert task(pools.offered(task.api, POOL, [QUEUE], limit=5)) == []
    policy = losing.retries_after_loss(task.read().policy)
    task(runs.patch(task.api, task.run.id, empirical_policy=policy))
    assert [r.id for r in task(pools.offered(task.api, POOL, [QUEUE], limit=5))] == [task.run.id]


def test_a_record_of_a_run_is_accepted_once_for_each_key(task: Task) -> None:
    path = f"/flow_runs/{task.run.id}/input"
    task(task.api.post(path, {"key": "clearflow-settle-x-0", "value": "ours"}))
    with pytest.raises(Conflict):
        task(task.api.post(path, {"key": "clearflow-settle-x-0", "value": "theirs"}))
    found: list[dict[str, Any]] = task(
        task.api.post(f"{path}/filter", {"prefix": "clearflow-settle-x-", "limit": 100})
    )
    assert [(r["key"], r["value"]) for r in found] == [("clearflow-settle-x-0", "ours")]


def test_a_deleted_run_has_no_history_and_takes_no_records(task: Task) -> None:
    task(runs.delete(task.api, task.run.id))
    assert task(runs.history(task.api, task.run.id)) == []
    assert not task(claims.take(task.api, task.run, lifecycle.claimed(task.run, "box:0", "ours")))
    with pytest.raises(NotFound):
        task(claims.settle(task.api, task.run.id, "ours", "box:0", timedelta(seconds=30)))


def test_tasks_are_offered_by_place_and_only_when_due(real: RealServer, api: Api) -> None:
    tasks = [Task(real, api) for _ in range(3)]
    assert all(t.run.place for t in tasks)
    head, now = tasks[0].run.place, real.clock.peek()
    assert head is not None
    move = lifecycle.queued(Note("moved"), head - timedelta(milliseconds=1))
    real.run(runs.propose(api, tasks[2].run.id, move))
    later = lifecycle.queued(Note("later"), now + timedelta(hours=1))
    real.run(runs.propose(api, tasks[1].run.id, later))
    offered = real.run(
        pools.offered(api, POOL, [QUEUE], limit=5, before=now + timedelta(seconds=1))
    )
    assert [r.id for r in offered] == [tasks[2].run.id, tasks[0].run.id]


@pytest.mark.parametrize(
    ("busy", "offered"),
    [("PENDING", 1), ("RUNNING", 1), ("CANCELLING", 2), ("COMPLETED", 2)],
)
def test_what_takes_a_slot_of_a_limit(real: RealServer, api: Api, busy: str, offered: int) -> None:
    real.reset(limit=2)
    Task(real, api).bring(busy)
    for _ in range(3):
        Task(real, api)
    assert len(real.run(pools.offered(api, POOL, [QUEUE], limit=5))) == offered


def test_a_limit_is_not_looked_at_when_a_task_is_taken(real: RealServer, api: Api) -> None:
    """The reason why claims have to be admitted."""
    real.reset(limit=1)
    for _ in range(2):
        Task(real, api).bring("RUNNING")
