"""Monitors on a real server: who is told what, each thing once, whatever dies meanwhile."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from clearflow import Monitor, SlackMonitor, Task
from clearflow._prefect import runs
from clearflow._prefect.keepsakes import Keepsake
from clearflow.apps.cleanup import CleanupSettings, clean
from clearflow.apps.slack import SlackMonitorSettings, watch
from clearflow.automation.slack import Slack
from clearflow.errors import NotFound, Unauthorized, Usage
from clearflow.words.lifecycle import Write
from clearflow.words.models import COMPLETED, FAILED
from clearflow.words.names import tags
from clearflow.words.notes import Note
from tests.support.line import Bench, bench
from tests.support.server import PrefectServer
from tests.support.slack import TOKEN, FakeSlack, fake_slack
from tests.support.waiting import wait_until_async

ENDS = {"failed": (FAILED, "Failed"), "completed": (COMPLETED, "Completed")}


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack() as fake:
        yield fake


@pytest.fixture
async def made(server: PrefectServer, unique: Callable[[str], str]) -> AsyncIterator[Bench]:
    async with bench(server, unique) as found:
        yield found


async def end(made: Bench, project: str, name: str, how: str) -> str:
    """A task that has ended so."""
    queue = await made.queue(f"q-{name}")
    run = await made.task(queue, name, tags=tags(project, "alice"))
    kind, word = ENDS[how]
    await runs.propose(made.api, run.id, Write(kind, word, Note(f"exit of {name}"), force=True))
    return run.id


async def end_many(made: Bench, project: str, names: list[str]) -> None:
    queue = await made.queue(f"q-{names[0]}")
    found = [await made.task(queue, name, tags=tags(project, "alice")) for name in names]
    for run in found:
        await runs.propose(
            made.api, run.id, Write(FAILED, "Failed", Note("exit code 1"), force=True)
        )


@contextlib.asynccontextmanager
async def watching(
    made: Bench, slack: FakeSlack, project: str, said: list[str]
) -> AsyncIterator[None]:
    """A monitor of the project; left, it is gone at once, as if it was killed."""
    settings = SlackMonitorSettings(
        channel="#training", projects=[project], agent_down=False, api_url=slack.url
    )
    task = asyncio.create_task(watch(made.api, project, settings, said.append, TOKEN))
    keepsake = Keepsake(made.api, "monitor", project)

    async def begun() -> bool:
        if task.done():
            task.result()
        return await keepsake.read() is not None

    await wait_until_async(begun, what="the monitor to remember something")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], bool], what: str) -> None:
    async def look() -> bool:
        return condition()

    await wait_until_async(look, what=what)


def told(slack: FakeSlack) -> list[str]:
    return [message["text"] for message in slack.messages]


def count(slack: FakeSlack) -> int:
    """Of how many failed tasks the messages tell."""
    numbers = [re.match(r"(\d+) × failed", text) for text in told(slack)]
    return sum(int(found[1]) if found else 1 for found in numbers)


async def test_only_failed_tasks_of_one_project_are_told_through_a_rate_limit_and_an_outage(
    made: Bench, slack: FakeSlack, unique: Callable[[str], str]
):
    alice, bob = unique("Alice"), unique("Bob")
    said: list[str] = []
    async with watching(made, slack, alice, said):
        slack.fail = ["429", "drop"]
        await end(made, bob, "not-hers", "failed")
        await end(made, alice, "good", "completed")
        await end(made, alice, "bad", "failed")
        await until(lambda: len(slack.messages) == 1, what="a message")
        slack.down = True
        await end(made, alice, "worse", "failed")
        await until(
            lambda: any("does not answer" in line for line in said), what="the outage to be noticed"
        )
        slack.down = False
        await until(lambda: len(slack.messages) == 2, what="the second message")
    first, second = slack.messages
    assert f"{alice} · bad: failed (exit of bad · by alice)" in first["text"]
    assert "worse: failed" in second["text"]
    assert {m["channel"] for m in slack.messages} == {"C1"}
    assert "/runs/flow-run/" in str(first["blocks"]), "there is no link to the task"
    assert TOKEN not in str(said)


async def test_clearml_dropped_what_came_in_a_burst_or_while_the_monitor_was_down(
    made: Bench, slack: FakeSlack, unique: Callable[[str], str]
):
    project = unique("Burst")
    names = [f"t{number}" for number in range(24)]
    slack.fail = ["lose"]  # it arrives, and the monitor is killed before it knows
    said: list[str] = []
    async with watching(made, slack, project, said):
        await end_many(made, project, names[:8])
        await until(lambda: len(slack.messages) >= 1, what="the first message")
    # Nobody watches.
    await end_many(made, project, names[8:16])
    async with watching(made, slack, project, said):
        await end_many(made, project, names[16:])
        await until(lambda: count(slack) >= len(names), what="all to be told")
    assert count(slack) == len(names)
    assert len(slack.messages) <= 6, "a burst is not a flood"
    assert any("goes on from" in line for line in said)


async def test_a_missing_channel_and_a_bad_token_are_one_line_before_it_runs(slack: FakeSlack):
    with pytest.raises(NotFound, match="no Slack channel '#nowhere'"):
        await Slack(TOKEN, "#nowhere", slack.url).check()
    with pytest.raises(Unauthorized, match="does not accept this token"):
        await Slack("xoxb-other", "#training", slack.url).check()
    with pytest.raises(Usage, match=r"tell\.0"):
        SlackMonitor("#training", tell=["everything"])


class Recorder(Monitor):
    """What it is handed."""

    def __init__(self, name: str, project: str) -> None:
        super().__init__(name)
        self.seen: list[str] = []
        self.set_projects([project])

    def process_task(self, task: Task) -> None:
        self.seen.append(task.name)
        if task.name == "t2" and len(self.seen) == 3:
            raise RuntimeError("killed while it processed t2")


async def test_a_monitor_of_ones_own_goes_on_where_it_stopped(
    made: Bench,
    server: PrefectServer,
    unique: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    project = unique("Own")
    first = Recorder(project, project)
    await asyncio.to_thread(first.monitor_step)
    await end_many(made, project, [f"t{number}" for number in range(5)])

    async def all_of(recorder: Recorder, wanted: int) -> None:
        async def step() -> bool:
            await asyncio.to_thread(recorder.monitor_step, 1.0)
            return len(recorder.seen) >= wanted

        await wait_until_async(step, what="the tasks to be processed")

    with pytest.raises(RuntimeError, match="killed"):
        await all_of(first, 5)
    again = Recorder(project, project)
    await all_of(again, 3)
    first.close()
    again.close()
    assert first.seen == ["t0", "t1", "t2"]
    assert again.seen == ["t2", "t3", "t4"]


async def test_clearml_cleanup_skipped_every_other_page(
    made: Bench, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
):
    project = unique("Old")
    await end_many(made, project, [f"t{number}" for number in range(7)])
    monkeypatch.setattr(runs, "PAGE", 2)
    said: list[str] = []
    settings = CleanupSettings(delete_threshold_days=0, projects=[project], dry_run=True)
    assert await clean(made.api, settings, said.append) == 7
    assert said[-1] == "7 tasks would go"
    settings = settings.model_copy(update={"dry_run": False})
    assert await clean(made.api, settings, said.append) == 7
    assert await runs.count(made.api, {"tags": {"all_": [f"project:{project}"]}}) == 0
