"""Queues against a real server: what people do to them, and what must never happen to tasks."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from clearflow import clock
from clearflow._prefect import claims, deployments, holds, hops, pools, runs
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow._prefect.many import resolve
from clearflow.errors import NotFound, Refused, Unreachable, Usage
from clearflow.queues import Queue, drafts, line, moves, records
from clearflow.queues.line import Spot, Where
from clearflow.words import lifecycle, losing, models
from clearflow.words.models import Machine, Run
from clearflow.words.notes import Note
from clearflow.words.why import Serving
from tests.support.line import Bench, bench
from tests.support.processes import clean_environment
from tests.support.server import PrefectServer, free_port

ODD = ["two words", "a/b", 'it\'s "quoted"', "50% & <more>", "🚀 ракета"]
NAMES = "abcdef"


@pytest.fixture
async def here(server: PrefectServer, unique: Callable[[str], str]) -> AsyncIterator[Bench]:
    async with bench(server, unique) as made:
        yield made


@pytest.fixture
async def cpu(here: Bench) -> models.Queue:
    return await here.queue("cpu")


async def move(here: Bench, queue: models.Queue, where: Where, *tasks: Run) -> list[Run]:
    fresh = [await here.fresh(t) for t in tasks]
    if where.anchor is not None:
        where = Where(where.spot, await here.fresh(where.anchor))
    return await moves.move(here.api, fresh, where, queue=queue, by="tester")


# -- records ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD)
async def test_a_queue_of_any_name(here: Bench, name: str) -> None:
    made = await records.create(here.api, here.pool, name, limit=2, description="for tests")
    assert (made.name, made.limit, made.description) == (name, 2, "for tests")
    task = await here.task(made, name)
    assert await here.line(made) == [name]
    with pytest.raises(Refused, match="exists already"):
        await records.create(here.api, here.pool, name)
    await records.pause(here.api, here.pool, name)
    assert (await pools.queue(here.api, here.pool, name)).paused
    other = await here.queue(f"{name} 2")
    await moves.move(here.api, [task], Where(Spot.FRONT), queue=other, by="tester")
    assert await here.line(other) == [name]
    await records.delete(here.api, here.pool, name, by="tester")
    with pytest.raises(NotFound, match="there is no queue"):
        await pools.queue(here.api, here.pool, name)


async def test_create_makes_the_pool(server: PrefectServer, unique: Callable[[str], str]) -> None:
    async with Api(Connection(server.url)) as api:
        pool = unique("new")
        await records.create(api, pool, "cpu")
        assert [q.name for q in await pools.queues(api, pool)] == ["default", "cpu"]


async def test_bad_limits_are_refused(here: Bench, cpu: models.Queue) -> None:
    with pytest.raises(Usage, match="negative"):
        await records.limit(here.api, here.pool, "cpu", -1)
    await records.limit(here.api, here.pool, "cpu", 3)
    assert (await pools.queue(here.api, here.pool, "cpu")).limit == 3
    await records.limit(here.api, here.pool, "cpu", None)
    assert (await pools.queue(here.api, here.pool, "cpu")).limit is None
    with pytest.raises(NotFound):
        await records.limit(here.api, here.pool, "nowhere", 1)


async def test_overview_counts(here: Bench, cpu: models.Queue) -> None:
    await here.tasks(cpu, "abc")
    running = await here.task(cpu, "running")
    await here.claim(running)
    await here.task(cpu, "later", place=clock.now() + timedelta(hours=1))
    seen = {o.queue.name: o for o in await records.overview(here.api, here.pool)}
    assert list(seen) == ["default", "cpu"]
    one = seen["cpu"]
    assert (one.waiting, one.active, one.later) == (3, 1, 1)
    assert one.head is not None
    assert one.head.name == "a"
    assert seen["default"].head is None


async def test_show_says_who_waits_why_and_since_when(here: Bench, cpu: models.Queue) -> None:
    since = clock.now() - timedelta(hours=2)
    await here.task(cpu, "old", since=since)
    await here.task(cpu, "big", job_variables={"gpus": 2})
    await here.task(cpu, "later", place=clock.now() + timedelta(hours=1))
    running = await here.task(cpu, "running")
    await here.claim(running)
    agent = Serving("host:0", ("cpu",), "running", Machine(slots=1), busy=1)
    shown = await records.show(here.api, here.pool, "cpu", [agent])
    assert [(w.number, w.run.name, w.why) for w in shown.line] == [
        (1, "old", "agents busy (1 of 1 slots)"),
        (2, "big", "needs 2 GPUs and no agent has them"),
    ]
    assert shown.line[0].since == since
    assert [r.name for r in shown.active] == ["running"]
    assert [r.name for r in shown.later] == ["later"]
    await records.pause(here.api, here.pool, "cpu")
    shown = await records.show(here.api, here.pool, "cpu", [agent], limit=1)
    assert [w.why for w in shown.line] == ["queue paused"]
    assert shown.waiting == 2


async def test_delete_refuses_while_tasks_wait_or_run(here: Bench, cpu: models.Queue) -> None:
    tasks = await here.tasks(cpu, "ab")
    with pytest.raises(Refused, match="2 tasks wait"):
        await records.delete(here.api, here.pool, "cpu", by="tester")
    await here.claim(tasks["a"])
    with pytest.raises(Refused, match="1 task of the queue 'cpu' is running"):
        await records.delete(here.api, here.pool, "cpu", by="tester")
    with pytest.raises(Refused, match="Prefect keeps"):
        await records.delete(here.api, here.pool, "default", by="tester")
    assert await here.line(cpu) == ["b"]


async def test_delete_moves_tasks_and_deployments(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    await here.task(gpu, "first")
    tasks = await here.tasks(cpu, "abc")
    steps: list[tuple[int, int | None]] = []
    moved = await records.delete(
        here.api,
        here.pool,
        "cpu",
        move_to="gpu",
        by="tester",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert moved == 3
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert await here.line(gpu) == ["first", "a", "b", "c"]
    found = await resolve(here.api, [t.id for t in tasks.values()])
    assert [r.task_id for r in found] == [t.id for t in tasks.values()]
    # Their deployment goes on working: it was born with the queue that is gone.
    assert (await here.task(gpu, "next")).queue == "gpu"


# -- moves -----------------------------------------------------------------------------------


async def test_every_spot(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, NAMES)
    await move(here, cpu, Where(Spot.FRONT), t["d"])
    assert await here.line(cpu) == list("dabcef")
    await move(here, cpu, Where(Spot.DOWN), t["d"])
    assert await here.line(cpu) == list("adbcef")
    await move(here, cpu, Where(Spot.UP), t["e"])
    assert await here.line(cpu) == list("adbecf")
    await move(here, cpu, Where(Spot.BACK), t["a"])
    assert await here.line(cpu) == list("dbecfa")
    await move(here, cpu, Where(Spot.BEFORE, t["d"]), t["f"])
    assert await here.line(cpu) == list("fdbeca")
    await move(here, cpu, Where(Spot.AFTER, t["a"]), t["b"])
    assert await here.line(cpu) == list("fdecab")
    await move(here, cpu, Where(Spot.AFTER, t["f"]), t["c"])
    assert await here.line(cpu) == list("fcdeab")


async def test_moves_at_the_ends_change_nothing(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abc")
    await move(here, cpu, Where(Spot.UP), t["a"])
    await move(here, cpu, Where(Spot.DOWN), t["c"])
    await move(here, cpu, Where(Spot.FRONT), t["a"])
    await move(here, cpu, Where(Spot.BACK), t["c"])
    assert await here.line(cpu) == list("abc")


async def test_many_keep_their_order(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, NAMES)
    await move(here, cpu, Where(Spot.FRONT), t["f"], t["b"], t["d"])
    assert await here.line(cpu) == list("bdface")
    await move(here, cpu, Where(Spot.BACK), t["d"], t["b"])
    assert await here.line(cpu) == list("facebd")
    await move(here, cpu, Where(Spot.BEFORE, t["e"]), t["d"], t["f"])
    assert await here.line(cpu) == list("acfdeb")
    await move(here, cpu, Where(Spot.UP), t["f"], t["d"])
    assert await here.line(cpu) == list("afdceb")
    await move(here, cpu, Where(Spot.UP), t["a"], t["f"])
    assert await here.line(cpu) == list("afdceb")
    await move(here, cpu, Where(Spot.DOWN), t["e"], t["b"])
    assert await here.line(cpu) == list("afdceb")
    await move(here, cpu, Where(Spot.DOWN), t["a"], t["f"])
    assert await here.line(cpu) == list("dafceb")


async def test_no_room_between_two_neighbours(here: Bench, cpu: models.Queue) -> None:
    start = clock.now() - timedelta(minutes=1)
    for number, name in enumerate("abcdef"):
        await here.task(cpu, name, place=start + timedelta(microseconds=number))
    t = {r.name: r async for r in line.waiting(here.api, cpu.id)}
    await move(here, cpu, Where(Spot.BEFORE, t["e"]), t["b"])
    assert await here.line(cpu) == list("acdbef")
    await move(here, cpu, Where(Spot.AFTER, t["a"]), t["f"], t["e"])
    assert await here.line(cpu) == list("aefcdb")
    places = [r.place async for r in line.waiting(here.api, cpu.id)]
    assert len(set(places)) == len(places)


async def test_a_tie_is_resolved_by_a_move_between(here: Bench, cpu: models.Queue) -> None:
    same = clock.now() - timedelta(minutes=1)
    for name in "abc":
        await here.task(cpu, name, place=same)
    await here.task(cpu, "d")
    t = {r.name: r async for r in line.waiting(here.api, cpu.id)}
    third = [n for n in t if n != "d"][2]
    await move(here, cpu, Where(Spot.BEFORE, t[third]), t["d"])
    names = await here.line(cpu)
    assert sorted(names) == list("abcd")
    assert names.index("d") < names.index(third)


async def test_the_time_of_enqueueing_is_kept(here: Bench, cpu: models.Queue) -> None:
    since = clock.now() - timedelta(hours=1)
    task = await here.task(cpu, "a", since=since)
    await here.tasks(cpu, "bc")
    await move(here, cpu, Where(Spot.BACK), task)
    await move(here, cpu, Where(Spot.FRONT), task)
    moved = await here.fresh(task)
    assert lifecycle.since(moved) == since
    assert moved.expected == task.expected
    assert moved.note.text == "moved to the front by tester"


async def test_a_move_across_keeps_everything(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu 🚀")
    others = await here.tasks(gpu, "xy")
    since = clock.now() - timedelta(hours=1)
    task = await here.task(
        cpu,
        "a / b 100% 🚀",
        since=since,
        parameters={"lr": 0.1, "name": "ü"},
        job_variables={"gpus": 1, "env": {"A": "b"}},
        tags=["user:me@example.com", "project:P"],
        labels={"mine": "yes"},
    )
    (moved,) = await move(here, gpu, Where(Spot.BEFORE, others["y"]), task)
    assert moved.id != task.id
    assert await here.line(cpu) == []
    assert await here.line(gpu) == ["x", "a / b 100% 🚀", "y"]
    found = await runs.resolve(here.api, task.id)
    assert found.id == moved.id
    assert found.task_id == task.id
    assert found.parameters == task.parameters
    assert found.job_variables == task.job_variables
    assert set(found.tags) == {*task.tags, f"task:{task.id}"}
    assert found.labels["mine"] == "yes"
    assert lifecycle.since(found) == since
    with pytest.raises(NotFound):
        await runs.read(here.api, task.id)
    # And back again, and once more: the id stays.
    (back,) = await move(here, cpu, Where(Spot.FRONT), moved)
    (again,) = await move(here, gpu, Where(Spot.BACK), back)
    assert (back.task_id, again.task_id) == (task.id, task.id)
    assert await here.line(gpu) == ["x", "y", "a / b 100% 🚀"]


async def test_a_task_without_deployment_moves_across(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    like = await here.task(cpu, "like")
    write = lifecycle.queued(Note("queued", by="tester"))
    bare = await runs.create_bare(
        here.api, like, write, pool=here.pool, queue="cpu", tags=["mine"], key="bare:0"
    )
    (moved,) = await move(here, gpu, Where(Spot.FRONT), bare)
    assert moved.deployment_id is None
    assert moved.task_id == bare.id
    assert await here.line(gpu) == ["like"]


async def test_what_cannot_be_moved(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abcd")
    await here.claim(t["a"])
    with pytest.raises(Refused, match=r"has just been started by host:0"):
        await move(here, cpu, Where(Spot.FRONT), t["a"])
    # The mover's knowledge may be old.
    with pytest.raises(Refused, match=r"has just been started by host:0"):
        await moves.place(here.api, t["a"], cpu, None, "tester", "moved")
    await runs.propose(here.api, t["b"].id, lifecycle.aborted("me", Note("")))
    with pytest.raises(Refused, match="has ended: aborted"):
        await move(here, cpu, Where(Spot.FRONT), t["b"])
    later = await here.task(cpu, "later", place=clock.now() + timedelta(hours=1))
    with pytest.raises(Refused, match="planned for later"):
        await move(here, cpu, Where(Spot.FRONT), later)
    with pytest.raises(Usage, match="beside itself"):
        await move(here, cpu, Where(Spot.BEFORE, t["c"]), t["c"])
    gpu = await here.queue("gpu")
    with pytest.raises(Usage, match="waits in 'cpu', not in 'gpu'"):
        await move(here, gpu, Where(Spot.UP), t["c"])
    with pytest.raises(Usage, match="waits in 'cpu', not in 'gpu'"):
        await move(here, gpu, Where(Spot.AFTER, t["c"]), t["d"])
    with pytest.raises(NotFound, match="there is no task"):
        await resolve(here.api, ["00000000-0000-0000-0000-000000000000"])
    assert await here.line(cpu) == ["c", "d"]


async def test_some_of_many_cannot_be_moved(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abcd")
    ids = {r.id for r in t.values()}
    room = await line.room(here.api, cpu.id, Where(Spot.FRONT), 2, ids)
    assert len(room.places) == 2
    stale = [t["c"], t["d"]]
    await here.claim(t["c"])
    with pytest.raises(Refused, match=r"1 of 2 done; task .* \(c\) has just been started"):
        await moves.move(here.api, stale, Where(Spot.FRONT), queue=cpu, by="tester")
    assert await here.line(cpu) == ["d", "a", "b"]


async def test_a_deployment_deleted_while_its_tasks_wait(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "ab")
    await here.api.delete(f"/deployments/{here.deployment['id']}")
    with pytest.raises(NotFound, match="deleted"):
        await moves.place(here.api, t["a"], cpu, None, "tester", "moved")
    with pytest.raises(NotFound, match="there is no task"):
        await runs.resolve(here.api, t["a"].id)


# -- many people at once ---------------------------------------------------------------------


async def test_twenty_moves_at_once_lose_nothing(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abcdefghij")
    spots = [Where(Spot.FRONT), Where(Spot.BACK), Where(Spot.UP), Where(Spot.AFTER, t["e"])]

    async def one(number: int) -> None:
        task = list(t.values())[number % 10]
        where = spots[number % 4]
        if where.anchor is not None and where.anchor.id == task.id:
            where = Where(Spot.FRONT)
        await move(here, cpu, where, task)

    await asyncio.gather(*(one(n) for n in range(20)))
    standing = [r async for r in line.waiting(here.api, cpu.id)]
    assert {r.id for r in standing} == {r.id for r in t.values()}
    assert len(standing) == 10
    assert len({r.place for r in standing}) == 10
    assert {r.state.name for r in standing if r.state} == {"Queued"}


async def test_two_people_move_one_task_across(here: Bench, cpu: models.Queue) -> None:
    gpu, tpu = await here.queue("gpu"), await here.queue("tpu")
    t = await here.tasks(cpu, "abcd")

    async def one(queue: models.Queue, run: Run) -> None:
        try:
            await move(here, queue, Where(Spot.BACK), run)
        except (Refused, NotFound):
            return

    await asyncio.gather(*(one(q, r) for r in t.values() for q in (gpu, tpu, gpu)))
    lines = [*await here.line(cpu), *await here.line(gpu), *await here.line(tpu)]
    assert sorted(lines) == list("abcd")
    found = await resolve(here.api, [r.id for r in t.values()])
    assert [r.task_id for r in found] == [r.id for r in t.values()]


async def test_a_mover_against_agents(here: Bench, cpu: models.Queue) -> None:
    """Moves and claims of the same tasks: each task is claimed once, or waits."""
    t = await here.tasks(cpu, "abcdef")
    claimed: list[str] = []

    async def agent(run: Run) -> None:
        write = lifecycle.claimed(run, "host:0", lifecycle.claim_token())
        if await claims.take(here.api, run, write):
            claimed.append(run.id)

    refusals: list[str] = []

    async def mover(run: Run) -> None:
        try:
            await moves.place(here.api, run, cpu, None, "tester", "moved")
        except Refused as refused:
            refusals.append(refused.message)

    await asyncio.gather(*(f(r) for r in t.values() for f in (agent, mover)))
    assert all("has just been started by host:0" in message for message in refusals)
    fresh = [await here.fresh(r) for r in t.values()]
    states = {r.id: r.state.type for r in fresh if r.state}
    assert {i for i, s in states.items() if s == "PENDING"} == set(claimed)
    assert {s for i, s in states.items() if i not in claimed} <= {"SCHEDULED"}


# -- movers that die -------------------------------------------------------------------------


async def test_an_interrupted_move_puts_the_task_back(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abc")

    async def stumble() -> None:
        async with holds.holding(here.api, t["b"], "tester", "moving"):
            assert await here.line(cpu) == ["a", "c"]
            raise RuntimeError("stumbled")

    with pytest.raises(RuntimeError, match="stumbled"):
        await stumble()
    assert await here.line(cpu) == list("abc")


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("number", range(7))
async def test_a_cancelled_move_holds_nothing(
    here: Bench,
    cpu: models.Queue,
    number: int,
    answered: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled at one of its requests, before it is sent or after it was answered."""
    t = await here.tasks(cpu, "abc")
    request, asked = here.api.request, 0

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        now = asked == number + 1
        if now and not answered:
            moving.cancel()
        answer = await request(*args, **options)
        if now and answered:
            moving.cancel()
        return answer

    monkeypatch.setattr(here.api, "request", counted)
    moving = asyncio.ensure_future(move(here, cpu, Where(Spot.FRONT), t["c"]))
    await asyncio.gather(moving, return_exceptions=True)
    assert await here.line(cpu) in (list("abc"), list("cab"))


KILLED = """
import asyncio, sys
from clearflow._prefect import holds, runs
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api

async def main(url, run_id):
    async with Api(Connection(url)) as api:
        async with holds.holding(api, await runs.read(api, run_id), "tester", "moving"):
            print("held", flush=True)
            await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_mover_is_swept(
    here: Bench, cpu: models.Queue, server: PrefectServer
) -> None:
    t = await here.tasks(cpu, "abc")
    mover = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, server.url, t["b"].id),
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    assert mover.stdout is not None
    assert await mover.stdout.readline() == b"held\n"
    mover.kill()
    await mover.wait()
    held = await here.fresh(t["b"])
    assert held.state is not None
    assert held.state.type == "PENDING"
    assert await here.line(cpu) == ["a", "c"]
    silence = timedelta(seconds=30)
    assert not losing.is_lost(held, {}, here.api.clock.now(), silence)
    assert losing.is_lost(held, {}, here.api.clock.now() + silence * 2, silence)
    assert not await hops.finish_hops(here.api, held)
    await claims.lose(here.api, held, "", by="sweeper", max_attempts=3, stale_after=silence)
    assert await here.line(cpu) == list("abc")


async def test_a_hop_that_stopped_halfway_is_finished(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    t = await here.tasks(cpu, "ab")
    # A mover that makes the new run and dies before it deletes the old one.
    write = lifecycle.held(t["a"], "tester", "moving", lifecycle.claim_token())
    assert await runs.propose(here.api, t["a"].id, write) is not None
    key, tag = f"{t['a'].id}:1", f"task:{t['a'].id}"
    await here.task(gpu, "a", tags=[tag], idempotency_key=key)
    old = await here.fresh(t["a"])
    assert (await runs.resolve(here.api, t["a"].id)).queue == "gpu"
    assert await hops.finish_hops(here.api, old)
    with pytest.raises(NotFound):
        await here.fresh(old)
    assert (await runs.resolve(here.api, t["a"].id)).queue == "gpu"


# -- drafts ----------------------------------------------------------------------------------


async def test_dequeue_and_enqueue_again(here: Bench, cpu: models.Queue) -> None:
    gpu = await here.queue("gpu")
    t = await here.tasks(cpu, "abcd")
    await drafts.dequeue(here.api, [t["a"], t["b"], t["c"]], by="tester")
    assert await here.line(cpu) == ["d"]
    draft = await here.fresh(t["a"])
    assert draft.status(here.api.clock.now()) == "draft"
    with pytest.raises(Refused, match="is a draft"):
        await drafts.dequeue(here.api, [draft], by="tester")
    with pytest.raises(Refused, match="is a draft"):
        await move(here, cpu, Where(Spot.FRONT), draft)
    await drafts.enqueue(here.api, [draft, await here.fresh(t["b"])], by="tester")
    assert await here.line(cpu) == ["d", "a", "b"]
    (hopped,) = await drafts.enqueue(here.api, [await here.fresh(t["c"])], queue=gpu, by="tester")
    assert await here.line(gpu) == ["c"]
    assert hopped.task_id == t["c"].id
    with pytest.raises(Refused, match="waits in 'gpu' already"):
        await drafts.enqueue(here.api, [hopped], queue=gpu, by="tester")
    # One that waits comes over.
    await drafts.enqueue(here.api, [await here.fresh(t["d"])], queue=gpu, by="tester")
    assert await here.line(gpu) == ["c", "d"]


async def test_two_people_enqueue_one_draft(here: Bench, cpu: models.Queue) -> None:
    task = await here.task(cpu, "a")
    await drafts.dequeue(here.api, [task], by="tester")
    draft = await here.fresh(task)

    async def one() -> bool:
        try:
            await drafts.enqueue(here.api, [draft], by="tester")
        except Refused:
            return False
        return True

    assert sum(await asyncio.gather(*(one() for _ in range(5)))) == 1
    assert await here.line(cpu) == ["a"]
    history = [s.name for s in await runs.history(here.api, task.id)]
    assert history == ["Queued", "Pending", "Draft", "Queued"]


async def test_an_aborted_task_is_queued_again(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "ab")
    await runs.propose(here.api, t["a"].id, lifecycle.aborted("me", Note("")))
    await drafts.enqueue(here.api, [await here.fresh(t["a"])], by="tester")
    assert await here.line(cpu) == ["b", "a"]
    note = await here.claim(await here.fresh(t["a"]))
    assert await runs.propose(here.api, t["a"].id, lifecycle.running(note)) is not None
    done = lifecycle.outcome(lifecycle.Exit(code=0), note)
    assert await runs.propose(here.api, t["a"].id, done) is not None
    with pytest.raises(Refused, match="has completed"):
        await drafts.enqueue(here.api, [await here.fresh(t["a"])], by="tester")


async def test_clear_makes_drafts_of_the_waiting(here: Bench, cpu: models.Queue) -> None:
    t = await here.tasks(cpu, "abc")
    running = await here.task(cpu, "running")
    await here.claim(running)
    later = await here.task(cpu, "later", place=clock.now() + timedelta(hours=1))
    steps: list[tuple[int, int | None]] = []
    done = await drafts.clear(
        here.api, cpu, by="tester", progress=lambda d, total: steps.append((d, total))
    )
    assert done == 3
    assert steps[-1] == (3, 3)
    assert await here.line(cpu) == []
    now = here.api.clock.now()
    for task, status in [(t["a"], "draft"), (running, "starting"), (later, "scheduled")]:
        assert (await here.fresh(task)).status(now) == status


async def test_runs_that_prefect_named_are_renamed_in_place(here: Bench, cpu: models.Queue) -> None:
    a = await here.task(cpu, "a")
    named = lifecycle.Write("SCHEDULED", "Scheduled", Note(""))
    b = await here.task(cpu, "b", write=named)
    await here.task(cpu, "c")
    assert not await moves.rename(here.api, a, "sweeper")
    assert await moves.rename(here.api, b, "sweeper")
    assert await here.line(cpu) == list("abc")
    fresh = await here.fresh(b)
    assert fresh.state is not None
    assert fresh.state.name == "Queued"
    assert not await moves.rename(here.api, fresh, "sweeper")


# -- the public face -------------------------------------------------------------------------


async def test_the_face(
    here: Bench, cpu: models.Queue, server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    t = await here.tasks(cpu, "abc")
    queue = Queue("cpu", pool=here.pool)
    # In a coroutine too, as in a notebook: the calls run on a loop of their own.
    queue.move_to_front(t["c"])
    assert [r.name for r in queue.tasks()] == ["c", "a", "b"]
    queue.move_to_back(t["c"].id, t["a"].id)
    assert [r.name for r in queue.tasks()] == ["b", "c", "a"]
    queue.move_before(t["a"], other=t["c"])
    queue.move_after(t["b"], other=t["c"])
    assert [r.name for r in queue.tasks()] == ["a", "c", "b"]
    queue.move_up(t["b"])
    queue.move_down(t["a"])
    assert [r.name for r in queue.tasks()] == ["b", "a", "c"]
    queue.pause()
    assert queue.paused
    queue.resume()
    queue.limit = 2
    assert queue.limit == 2
    other = Queue("other", pool=here.pool).create()
    other.move_to_back(t["a"])
    assert [r.task_id for r in other.tasks()] == [t["a"].id]
    assert queue.clear() == 2
    queue.delete(move_to="other")
    with pytest.raises(NotFound, match="there is no queue 'cpu'"):
        queue.tasks()


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    monkeypatch.setattr("clearflow._prefect.seam.PATIENCE", 0.5)
    with pytest.raises(Unreachable, match="does not answer"):
        Queue("cpu").tasks()


async def test_deployments_are_pointed_elsewhere(here: Bench, cpu: models.Queue) -> None:
    await here.task(cpu, "a")
    await here.queue("heir")
    await deployments.repoint(here.api, cpu.id, pool=here.pool, queue="heir")
    assert (await deployments.read(here.api, here.deployment["id"]))["work_queue_name"] == "heir"
