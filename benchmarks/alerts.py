"""1,000 tasks fail in a burst, and the Slack monitor is killed in the middle: who is told of what.

The monitor is a process of its own, killed with SIGKILL when half of the tasks have ended and
started again at once; Slack is a stand-in on this machine. Messages fold what comes together, and
say of how many tasks they tell: these numbers are added up.

Bar: the last message within 30 s of the last end, of none too few and none too many; 10 s is the
stretch.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time

from benchmarks.bench import POOL, Bench, Report, Row, Started, bench, deployment, queue
from clearflow._prefect import runs
from clearflow._prefect.http import Api
from clearflow._prefect.keepsakes import Keepsake
from clearflow.words import lifecycle
from clearflow.words.lifecycle import Write
from clearflow.words.models import FAILED, Run
from clearflow.words.names import tags
from clearflow.words.notes import Note
from tests.support.slack import TOKEN, FakeSlack, fake_slack
from tests.support.waiting import wait_until, wait_until_async

_MONITOR = """
import asyncio, os
from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.apps.slack import SlackMonitorSettings, watch

async def main():
    settings = SlackMonitorSettings(
        channel="#training", projects=["Burst"], agent_down=False, api_url=os.environ["SLACK"]
    )
    async with Api(connection(), give_up_after=None) as api:
        await watch(api, "burst", settings, print, os.environ["TOKEN"])

asyncio.run(main())
"""
_PATIENCE = 120.0


def run(count: int = 1000) -> Report:
    with bench() as made, fake_slack() as slack:
        took, told = asyncio.run(_measure(made, slack, count))
    rows = [
        Row(
            f"{count:,} tasks end in a burst, the monitor killed in the middle → last alert",
            f"{took:.1f} s",
            "≤ 30 s",
            took <= 30,
            "10 s",
            beside=f"{len(slack.messages)} messages",
        ),
        Row(
            "of these missing, doubled",
            f"{max(count - told, 0)}, {max(told - count, 0)}",
            "0, 0",
            told == count,
        ),
    ]
    return Report("alerts", rows, {"last": took, "told": told, "messages": len(slack.messages)})


async def _measure(made: Bench, slack: FakeSlack, count: int) -> tuple[float, int]:
    """Seconds from the last end to the last message; of how many tasks the messages tell."""
    async with made.api() as api:
        await queue(api, "burst")
        where = await deployment(api, "trivial", POOL, "burst")
        tasks = [
            await runs.create(
                api,
                where,
                write=lifecycle.made("alice"),
                name=f"t{n}",
                tags=tags("Burst", "alice"),
            )
            for n in range(count)
        ]
        monitor = await _monitor(made, api, slack, 1)
        await _end(api, tasks[: count // 2])
        monitor.process.kill()
        monitor.process.wait()
        again = made.start("monitor-2", _command(), _environment(made, slack))
        await _end(api, tasks[count // 2 :])
        ended = time.monotonic()
        try:
            await asyncio.to_thread(
                wait_until, lambda: _told(slack) >= count, _PATIENCE, "all to be told"
            )
            took = time.monotonic() - ended
            # Time for what should not come.
            await asyncio.sleep(5)
        finally:
            again.process.kill()
            again.process.wait()
        return took, _told(slack)


def _command() -> list[str]:
    return [sys.executable, "-c", _MONITOR]


def _environment(made: Bench, slack: FakeSlack) -> dict[str, str]:
    return {**made.env(), "SLACK": slack.url, "TOKEN": TOKEN}


async def _monitor(made: Bench, api: Api, slack: FakeSlack, number: int) -> Started:
    """A monitor that watches."""
    started = made.start(f"monitor-{number}", _command(), _environment(made, slack))

    async def begun() -> bool:
        return await Keepsake(api, "monitor", "burst").read() is not None

    await wait_until_async(begun, 60, what="the monitor to watch")
    return started


async def _end(api: Api, tasks: list[Run]) -> None:
    few = asyncio.Semaphore(16)

    async def one(task: Run) -> None:
        async with few:
            write = Write(FAILED, "Failed", Note("exit code 1"), force=True)
            await runs.propose(api, task.id, write)

    await asyncio.gather(*map(one, tasks))


def _told(slack: FakeSlack) -> int:
    """Of how many tasks the messages tell."""
    found = [re.match(r"(\d+) × failed", message["text"]) for message in slack.messages]
    return sum(int(each[1]) if each else 1 for each in found)
