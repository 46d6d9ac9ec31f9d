"""Tasks against a real server: queued from a program, found, shown, followed and aborted."""

import asyncio
import importlib.util
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect import Flow, flow

import clearflow
from clearflow import clock
from clearflow._prefect import deployments, events, logs, runs
from clearflow._prefect.events import Event
from clearflow._prefect.logs import Line
from clearflow.errors import NotFound, Refused, Usage
from clearflow.queues import drafts, moves
from clearflow.queues.line import Spot, Where
from clearflow.tasks import abort, find, show, wait
from clearflow.tasks import logs as console
from clearflow.tasks.enqueue import Order, submit
from clearflow.tasks.find import Search
from clearflow.tasks.source import refuse_while_loading, source
from clearflow.words import lifecycle, models
from clearflow.words.models import Machine, Run
from clearflow.words.notes import Note
from clearflow.words.why import Serving
from tests.support.agents import Site
from tests.support.line import Bench, bench
from tests.support.server import PrefectServer
from tests.support.waiting import wait_until, wait_until_async

TRAIN = """
from prefect import flow

@flow(name={name!r}, description="Trains")
def train(lr: float = 0.1, epochs: int = 3, name: str = "x"):
    for epoch in range(epochs):
        print("epoch", epoch, "lr", lr)
    return lr

variant = train.with_options(name="variant")

@flow
def endless():
    import threading
    threading.Event().wait()
"""


@pytest.fixture
async def here(server: PrefectServer, unique: Callable[[str], str]) -> AsyncIterator[Bench]:
    async with bench(server, unique) as made:
        yield made


@pytest.fixture
async def cpu(here: Bench) -> models.Queue:
    return await here.queue("cpu")


def write_module(folder: Path, name: str, flow_name: str) -> ModuleType:
    """A file with flows in it, imported as a program would."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(TRAIN.format(name=flow_name))
    spec = importlib.util.spec_from_file_location(f"{folder.name}_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def training(tmp_path: Path, unique: Callable[[str], str]) -> ModuleType:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    return write_module(tmp_path / "repo" / "src", "training", unique("train"))


def order(here: Bench, flow: Flow[..., Any], **options: Any) -> Order:
    options.setdefault("parameters", {})
    return Order(flow=flow, queue=options.pop("queue", "cpu"), pool=here.pool, **options)


# -- queueing --------------------------------------------------------------------------------


async def test_a_flow_is_queued(
    here: Bench, cpu: models.Queue, training: ModuleType, tmp_path: Path
) -> None:
    task = await submit(
        here.api,
        order(
            here,
            training.train,
            parameters={"lr": 0.5},
            project="Alice / Bob 🚀",
            name="50% & more",
            tags=["stable"],
            job_variables={"gpus": 1},
            max_attempts=2,
        ),
        by="me@example.com",
    )
    run = await here.fresh(task)
    assert run.state is not None
    assert (run.state.name, run.note.text) == ("Queued", "queued by me@example.com")
    assert (run.name, run.queue, run.project, run.owner) == (
        "50% & more",
        "cpu",
        "Alice / Bob 🚀",
        "me@example.com",
    )
    assert "stable" in run.tags
    assert run.parameters == {"lr": 0.5}
    assert run.job_variables == {"gpus": 1, "max_attempts": 2}
    assert run.deployment_id is not None
    made = await deployments.read(here.api, run.deployment_id)
    assert (made["path"], made["entrypoint"]) == (str(tmp_path / "repo"), "src/training.py:train")
    assert set(made["parameter_openapi_schema"]["properties"]) == {"lr", "epochs", "name"}
    names = await deployments.flow_names(here.api, [run.flow_id])
    assert names[run.flow_id] == "Alice ／ Bob 🚀 · 50％ ＆ more"
    assert lifecycle.since(run) == run.place


async def test_queueing_again_is_one_request(
    here: Bench, cpu: models.Queue, training: ModuleType
) -> None:
    first = await submit(here.api, order(here, training.train), by="me")
    before = here.api.requests
    second = await submit(here.api, order(here, training.train), by="me")
    assert here.api.requests == before + 1
    assert second.deployment_id == first.deployment_id
    # A variant is another flow of the same file.
    other = await submit(here.api, order(here, training.variant), by="me")
    assert other.deployment_id is not None
    made = await deployments.read(here.api, other.deployment_id)
    assert made["entrypoint"] == "src/training.py:variant"


async def test_a_deleted_deployment_is_made_again(
    here: Bench, cpu: models.Queue, training: ModuleType
) -> None:
    first = await submit(here.api, order(here, training.train), by="me")
    await here.api.delete(f"/deployments/{first.deployment_id}")
    second = await submit(here.api, order(here, training.train), by="me")
    assert second.deployment_id != first.deployment_id
    assert await here.line(cpu) == [training.train.name]


async def test_two_files_may_have_flows_of_one_name(
    here: Bench, cpu: models.Queue, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    name = unique("same")
    found = []
    for folder in ("one", "two"):
        module = write_module(tmp_path / folder, "train", name)
        run = await submit(here.api, order(here, module.train), by="me")
        assert run.deployment_id is not None
        found.append(await deployments.read(here.api, run.deployment_id))
    assert [d["path"] for d in found] == [str(tmp_path / "one"), str(tmp_path / "two")]


async def test_what_cannot_be_queued(here: Bench, cpu: models.Queue, training: ModuleType) -> None:
    def ask(flow: Flow[..., Any] = training.train, **options: Any) -> Any:
        return submit(here.api, order(here, flow, **options), by="me")

    with pytest.raises(NotFound, match="there is no queue 'nowhere'"):
        await ask(queue="nowhere")
    with pytest.raises(Usage, match=r"do not fit the flow .*lr: Input should be a valid number"):
        await ask(parameters={"lr": "high"})
    with pytest.raises(Usage, match=r"do not fit the flow .*'nonsense'"):
        await ask(parameters={"nonsense": 1})
    with pytest.raises(Usage, match="the parameters are too large"):
        await ask(parameters={"name": "x" * 600_000})
    assert await here.line(cpu) == []


async def test_what_cannot_be_sent(here: Bench, cpu: models.Queue) -> None:
    with pytest.raises(Usage, match="'thing' cannot be sent as JSON: it is a lock"):
        await submit(
            here.api, order(here, untyped, parameters={"thing": threading.Lock()}), by="me"
        )


@flow
def untyped(thing: Any) -> None:
    """Takes anything."""


class Holder:
    @flow
    def method(self) -> None:
        """Cannot be found by a name of its own."""


def test_flows_that_no_agent_could_find() -> None:
    @flow
    def local() -> None:
        """Lives in a function."""

    with pytest.raises(Usage, match=r"is defined inside test_flows_that_no_agent_could_find\(\)"):
        source(local)
    nothing: Callable[[], None] = lambda: None  # noqa: E731
    with pytest.raises(Usage, match="is a lambda"):
        source(flow(name="short")(nothing))
    with pytest.raises(Usage, match="is a method of Holder"):
        source(Holder.method)
    with pytest.raises(Usage, match=r"has no name in .*test_tasks"):
        source(untyped.with_options(name="nameless"))
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("from prefect import flow\n@flow\ndef typed_in(): pass", space)
    with pytest.raises(Usage, match="is not defined in a file"):
        source(space["typed_in"])


def test_a_file_must_not_queue_while_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "top.py"
    file.write_text(
        "from clearflow.tasks.source import refuse_while_loading\nrefuse_while_loading(__file__)\n"
    )
    spec = importlib.util.spec_from_file_location("top", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "1")
    refuse_while_loading(str(file))
    with pytest.raises(Usage, match="queues a task while it is loaded"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# -- finding ---------------------------------------------------------------------------------


async def names(here: Bench, limit: int | None = None, **options: Any) -> list[str]:
    search = Search(pool=here.pool, **options)
    return [r.name async for r in find.find(here.api, search, limit)]


async def test_finding(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu / 2")
    a = await here.task(cpu, "a_train", tags=["project:P", "user:me", "stable"])
    b = await here.task(gpu, "b-Train 100%", tags=["project:P", "user:you"])
    c = await here.task(cpu, "c", tags=["project:Q/🚀", "user:me"])
    await here.task(cpu, "later", place=clock.now() + timedelta(hours=1))
    await drafts.dequeue(here.api, [c], by="me")
    await here.claim(b)
    assert await names(here) == ["c", "b-Train 100%", "a_train"]
    assert await names(here, limit=2) == ["c", "b-Train 100%"]
    assert await names(here, project="P") == ["b-Train 100%", "a_train"]
    assert await names(here, project="Q/🚀") == ["c"]
    assert await names(here, user="me") == ["c", "a_train"]
    assert await names(here, tags=["stable"], project="P") == ["a_train"]
    assert await names(here, name="train") == ["b-Train 100%", "a_train"]
    assert await names(here, name="100%") == ["b-Train 100%"]
    assert await names(here, name="a_") == ["a_train"]
    assert await names(here, queue="gpu / 2") == ["b-Train 100%"]
    assert await names(here, statuses=["queued"]) == ["a_train"]
    assert await names(here, statuses=["draft", "starting"]) == ["c", "b-Train 100%"]
    assert await names(here, statuses=["scheduled"]) == ["later"]
    assert await names(here, prefix=a.id[:8].upper()) == ["a_train"]
    with pytest.raises(Usage, match="'done' is no status"):
        await names(here, statuses=["done"])


async def test_one_task_by_a_part_of_its_id(here: Bench, cpu: models.Queue) -> None:
    a = await here.task(cpu, "a")
    assert (await find.one(here.api, a.id)).id == a.id
    assert (await find.one(here.api, a.id[:8])).id == a.id
    assert (await find.one(here.api, a.id[:13].upper())).id == a.id
    both = await find.several(here.api, [a.id[:8], a.id])
    assert [r.id for r in both] == [a.id]
    with pytest.raises(NotFound, match="is not the id of a task"):
        await find.one(here.api, "a")
    with pytest.raises(NotFound, match="no task has an id that starts with"):
        await find.one(here.api, "00000000-0000-0000")
    gpu = await here.queue("gpu")
    (moved,) = await moves.move(here.api, [a], Where(Spot.BACK), queue=gpu, by="me")
    assert (await find.one(here.api, a.id[:8])).id == moved.id


async def test_short_prefixes_may_stand_for_several(
    here: Bench, cpu: models.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await here.task(cpu, "a")
    twin = replace(run, id=run.id[:7] + "-twin", name="b")

    async def both(*_: object) -> AsyncIterator[Run]:
        for each in (run, twin, run):
            yield each

    monkeypatch.setattr(find, "find", both)
    with pytest.raises(Usage, match=r"stands for more than one task: .* \(a\), .* \(b\)"):
        await find.one(here.api, run.id[:5])
    # This much of an id is enough.
    assert (await find.one(here.api, run.id[:8])).id == run.id


# -- showing ---------------------------------------------------------------------------------

AGENT = Serving("host:0", ("cpu",), "running", Machine(slots=1), busy=1)


async def test_a_waiting_task_says_where_it_stands_and_why(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abc")
    shown = await show.show(here.api, await here.fresh(t["c"]), [AGENT])
    assert shown.status == "queued"
    assert shown.place == show.Place(3, 3, "agents busy (1 of 1 slots)")
    assert shown.flow == f"{here.pool} · train"
    assert shown.agent is None
    assert shown.end is None
    shown = await show.show(here.api, await here.fresh(t["b"]), [])
    assert shown.place == show.Place(2, 3, "no agent serves this queue")
    assert shown.url.endswith(f"/runs/flow-run/{t['b'].id}")


async def test_an_ended_task_says_how(here: Bench, cpu: models.Queue) -> None:
    run = await here.task(cpu, "a")
    note = await here.claim(run)
    await runs.propose(here.api, run.id, lifecycle.running(note))
    await runs.propose(here.api, run.id, lifecycle.outcome(lifecycle.Exit(code=3), note))
    shown = await show.show(here.api, await here.fresh(run), [])
    assert (shown.status, shown.end, shown.agent) == ("failed", "exit code 3", "host:0")
    assert [(s.state, s.words) for s in shown.history] == [
        ("Queued", "queued by tester"),
        ("Pending", "claimed by host:0"),
        ("Running", "running on host:0"),
        ("Failed", "exit code 3"),
    ]
    assert (shown.aborted_by, shown.place) == (None, None)


# -- aborting --------------------------------------------------------------------------------


async def test_abort(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abcd")
    now = here.api.clock.now()
    (waiting,) = await abort.abort(here.api, [t["a"]], by="me")
    assert waiting.status(now) == "aborted"
    shown = await show.show(here.api, waiting, [])
    assert shown.aborted_by == "me"
    assert shown.aborted_at is not None
    await here.claim(t["b"])
    (starting,) = await abort.abort(here.api, [t["b"]], by="me")
    assert starting.status(now) == "aborting"
    note = await here.claim(t["c"])
    await runs.propose(here.api, t["c"].id, lifecycle.running(note))
    (running,) = await abort.abort(here.api, [t["c"]], by="me")
    assert running.status(now) == "aborting"
    with pytest.raises(Refused, match=r"task .* \(a\) has ended: aborted"):
        await abort.abort(here.api, [waiting], by="me")
    with pytest.raises(Refused, match=r"1 of 2 done; task .* \(a\) has ended"):
        await abort.abort(here.api, [waiting, t["d"]], by="me")
    assert await here.line(cpu) == []


async def test_abort_of_a_draft_and_of_one_that_moves(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    t = await here.tasks(cpu, "ab")
    await drafts.dequeue(here.api, [t["a"]], by="me")
    (draft,) = await abort.abort(here.api, [await here.fresh(t["a"])], by="me")
    assert draft.status(here.api.clock.now()) == "aborted"
    await moves.move(here.api, [t["b"]], Where(Spot.BACK), queue=gpu, by="me")
    # Known by the run it had before.
    (moved,) = await abort.abort(here.api, [t["b"]], by="me")
    assert (moved.task_id, moved.status(here.api.clock.now())) == (t["b"].id, "aborted")


async def test_abort_wins_over_moves(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abcdef")

    async def mover(run: Run) -> None:
        try:
            await moves.move(here.api, [run], Where(Spot.FRONT), queue=cpu, by="you")
        except (Refused, NotFound):
            return

    work = [
        f(r) for r in t.values() for f in (mover, lambda r: abort.abort(here.api, [r], by="me"))
    ]
    await asyncio.gather(*work)
    states = [(await here.fresh(r)).status(here.api.clock.now()) for r in t.values()]
    assert states == ["aborted"] * 6


# -- the console -----------------------------------------------------------------------------


def lines(*messages: str, ago: float = 0.0) -> list[Line]:
    start = clock.now() - timedelta(seconds=ago)
    return [Line(m, start + timedelta(milliseconds=i)) for i, m in enumerate(messages)]


async def test_the_console_so_far(here: Bench, cpu: models.Queue) -> None:
    run = await here.task(cpu, "a")
    await logs.send(here.api, run.id, lines(*(f"line {n}" for n in range(450))))
    said = [line.message async for line in console.read(here.api, run)]
    assert said == [f"line {n}" for n in range(450)]
    assert [line.message async for line in console.read(here.api, run, 250)] == said[-250:]
    assert [line.message async for line in console.read(here.api, run, 1)] == said[-1:]


async def are(found: list[str], *wanted: str) -> bool:
    return sorted(found) == sorted(wanted)


async def test_following_a_console(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    run = await here.task(cpu, "a")
    got: list[str] = []

    async def follow() -> None:
        async for line in console.follow(here.api, run):
            got.append(line.message)

    following = asyncio.create_task(follow())
    (moved,) = await moves.move(here.api, [run], Where(Spot.BACK), queue=gpu, by="me")
    note = await here.claim(moved)
    await runs.propose(here.api, moved.id, lifecycle.running(note))
    await logs.send(here.api, moved.id, lines("one", "two"))
    await wait_until_async(lambda: are(got, "one", "two"), what="the first lines")
    # Somebody else's lines come late, and out of order.
    await logs.send(here.api, moved.id, lines("late", ago=0.5))
    await logs.send(here.api, moved.id, lines("three"))
    await runs.propose(here.api, moved.id, lifecycle.outcome(lifecycle.Exit(code=0), note))
    async with asyncio.timeout(30):
        await following
    assert sorted(got) == ["late", "one", "three", "two"]
    assert got.index("one") < got.index("two") < got.index("three")


async def test_following_ends_at_once_for_a_task_that_never_ran(
    here: Bench, cpu: models.Queue
) -> None:
    run = await here.task(cpu, "a")
    await runs.propose(here.api, run.id, lifecycle.aborted("me", Note("")))
    assert [line async for line in console.follow(here.api, run)] == []


# -- waiting ---------------------------------------------------------------------------------


async def test_waiting_for_many(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    t = await here.tasks(cpu, "abc")
    ended: list[str] = []
    waiting = asyncio.create_task(
        wait.wait(here.api, list(t.values()), ended=lambda run: ended.append(run.name))
    )
    await moves.move(here.api, [t["a"]], Where(Spot.BACK), queue=gpu, by="me")
    moved = await runs.resolve(here.api, t["a"].id)
    told: list[str] = []
    for run in (t["c"], moved, t["b"]):
        await runs.propose(here.api, run.id, lifecycle.aborted("me", Note("")))
        told.append(run.name)
        await wait_until_async(lambda: are(ended, *told), what=f"{run.name} to be told")
    async with asyncio.timeout(30):
        done = await waiting
    assert [r.task_id for r in done] == [r.id for r in t.values()]
    assert ended == told


async def test_waiting_is_woken_by_events(
    here: Bench, cpu: models.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await here.task(cpu, "a")
    # No look without an event, but the first one, and those that follow an event.
    monkeypatch.setattr(wait, "_SLOW", 3600)
    hints = []
    stream = events.stream

    async def watched(*args: Any, **options: Any) -> AsyncIterator[Event]:
        async for event in stream(*args, **options):
            hints.append(event)
            yield event

    monkeypatch.setattr(events, "stream", watched)
    waiting = asyncio.create_task(wait.wait(here.api, [run]))

    async def connected() -> bool:
        return bool(hints)

    await wait_until_async(connected, what="its events")
    await runs.propose(here.api, run.id, lifecycle.aborted("me", Note("")))
    async with asyncio.timeout(30):
        await waiting


async def test_waiting_has_an_end(here: Bench, cpu: models.Queue) -> None:
    run = await here.task(cpu, "a")
    with pytest.raises(TimeoutError):
        await wait.wait(here.api, [run], timeout=0.5)
    await here.api.delete(f"/flow_runs/{run.id}")
    with pytest.raises(NotFound, match="has been deleted"):
        await wait.wait(here.api, [run], timeout=20)


# -- with an agent ---------------------------------------------------------------------------


def test_the_public_face(site: Site, training: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", site.url)
    site.agent("cpu")
    queue = clearflow.Queue("cpu", pool=site.pool)
    task = clearflow.enqueue(training.train, queue, {"lr": 0.5, "epochs": 2}, pool=site.pool)
    assert isinstance(task, clearflow.Task)
    assert task.wait(timeout=60) == "completed"
    assert task.status == "completed"
    epochs = ["epoch 0 lr 0.5", "epoch 1 lr 0.5"]
    # The console follows the state by a moment.
    wait_until(lambda: [x for x in task.logs() if "epoch" in x] == epochs, what="the console")
    endless = clearflow.enqueue(training.endless, "cpu", name="long one", pool=site.pool)
    waiting = clearflow.enqueue(training.endless, "cpu", name="never", pool=site.pool)
    wait_until(lambda: endless.status == "running", what="the endless to run")
    waiting.abort()
    assert waiting.status == "aborted"
    endless.abort()
    assert endless.wait(timeout=60) == "aborted"
    with pytest.raises(Refused, match="has ended"):
        endless.abort()
    with pytest.raises(Usage, match="do not fit"):
        clearflow.enqueue(training.train, "cpu", {"lr": []}, pool=site.pool)
