"""`clearflow quickstart`: trainings in a queue, two agents, one moved to the front, one aborted."""

from __future__ import annotations

import asyncio
import contextlib
import select
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from clearflow._prefect import claims, logs, pools, runs
from clearflow._prefect.http import Api
from clearflow.apps.quickstart import project
from clearflow.capture.owner import owner
from clearflow.cli.output import print_json, say
from clearflow.cli.stage import Stage
from clearflow.cli.steps import ends_by_signal, is_terminal, step
from clearflow.errors import ClearflowError
from clearflow.queues import moves
from clearflow.queues.line import Spot, Where
from clearflow.settings import settings
from clearflow.tasks.packing import Order, pack
from clearflow.tasks.script import submit
from clearflow.words.models import Run

if TYPE_CHECKING:
    from rich.console import RenderableType

PROJECT = "Quickstart"
_MISTAKE = {"loss": "hinge", "alpha": 0.0001, "epochs": 1_000_000}
_LOSSES, _ALPHAS = ("hinge", "log_loss", "modified_huber"), (0.0001, 0.001, 0.01, 0.00001)
_PATIENCE, _LOOKING = 300.0, 60.0
_ENDED = {"completed", "failed", "crashed", "aborted"}


@dataclass
class Training:
    """One task and what is known of it."""

    name: str
    parameters: Mapping[str, Any]
    id: str = ""
    status: str = "queued"
    agent: str | None = None
    started: datetime | None = None
    seconds: float | None = None
    ended: datetime | None = None
    reason: str = ""
    accuracy: float | None = None
    lines: int = 0
    last: str = ""
    reproduced: bool = False

    def take_in(self, run: Run, now: datetime) -> None:
        self.status = run.status(now)
        self.agent = run.note.agent or self.agent
        self.started = run.started
        self.reason = run.note.text
        accuracy = run.labels.get("clearflow.property.accuracy")
        self.accuracy = float(accuracy) if accuracy is not None else None
        self.ended = run.ended
        if run.started and run.ended:
            self.seconds = (run.ended - run.started).total_seconds()

    def silent(self, now: datetime) -> bool:
        """Whether no line will come any more."""
        return self.ended is not None and (now - self.ended).total_seconds() > 5


def run(*, keep: bool, trainings: int, as_json: bool) -> int:
    """Play it through; the exit code, which is 0 only if all of it really worked."""
    with ends_by_signal():
        try:
            with Stage(keep) as stage:
                play = Play(stage, plan(trainings))
                play.enqueue()
                stage.start_agents(2)
                asyncio.run(play.through())
                code = play.report(as_json)
                if stage.own_server and not keep and not as_json:
                    _let_look_around(stage)
                return code
        except KeyboardInterrupt:
            say("\nStopped: nothing of it is left.")
            return 130


def plan(count: int) -> list[Training]:
    """Different parameters; the first one would take an hour, as mistakes do."""
    found = [Training("digits 1", _MISTAKE)]
    for number in range(2, count + 1):
        parameters = {
            "loss": _LOSSES[number % len(_LOSSES)],
            "alpha": _ALPHAS[number % len(_ALPHAS)],
            # Long enough for the others to be moved meanwhile.
            "epochs": 1000 if number == 2 else 300,
        }
        found.append(Training(f"digits {number}", parameters))
    return found


@dataclass
class Play:
    """The trainings on their stage, from the queue to the results."""

    stage: Stage
    trainings: list[Training]
    behind: list[str] = field(default_factory=list)

    @property
    def first(self) -> Training:
        return self.trainings[0]

    @property
    def last(self) -> Training:
        return self.trainings[-1]

    async def through(self) -> None:
        """A move, an abort, and the end of all trainings."""
        async with Api(self.stage.where, give_up_after=20.0) as api:
            with _shown(self) as show:
                await self._until(api, show, lambda: self._busy() >= 2, "the agents to take tasks")
                await self._move(api, show)
                await self._until(api, show, lambda: bool(self.first.last), "the first to train")
                step(f"clearflow task abort {self.first.id}", f"{self.first.name} takes too long")
                await claims.abort(api, self.first.id, owner())
                ended = lambda: all(t.status in _ENDED for t in self.trainings)  # noqa: E731
                await self._until(api, show, ended, "all trainings to end")
                # The last lines of a console come a moment after the end.
                await self._look(api, show)

    def enqueue(self) -> None:
        """All trainings into the queue, before anybody serves it."""
        script = project.make(self.stage.home / "project")
        step("git diff --stat", "digits.py, with a line that nobody has committed")
        self.stage.ask(lambda api: self._send(api, script))

    async def _send(self, api: Api, script: Path) -> list[str]:
        queue = self.stage.queue
        order = Order(script, queue, project=PROJECT)
        with TemporaryDirectory(dir=self.stage.home) as place:
            packed = await asyncio.to_thread(pack, order, Path(place))
            for each in self.trainings:
                words = [f"--{k}={v}" for k, v in each.parameters.items()]
                its = replace(packed, order=replace(order, name=each.name, arguments=words))
                run = await submit(api, its, by=owner(), progress=lambda done, total: None)
                each.id = run.id
                self.stage.tasks.append(each.id)
                said = f"clearflow task run digits.py --queue {queue} -- {' '.join(words)}"
                step(said, each.name)
        return self.stage.tasks

    async def _move(self, api: Api, show: Show) -> None:
        await self._look(api, show)
        self.behind = [t.id for t in self.trainings[1:-1] if t.status == "queued"]
        step(
            f"clearflow queue move {self.last.id} --front",
            f"{self.last.name} goes before {len(self.behind)} others",
        )
        queue = await pools.queue(api, settings().pool, self.stage.queue)
        last = await runs.read(api, self.last.id)
        await moves.move(api, [last], Where(Spot.FRONT), queue=queue, by=owner())

    def _busy(self) -> int:
        return sum(t.status not in {"queued", "draft"} for t in self.trainings)

    async def _until(self, api: Api, show: Show, done: Any, what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            await self._look(api, show)
            if done():
                return
            failed = next((t for t in self.trainings if t.status in {"failed", "crashed"}), None)
            if failed:
                raise ClearflowError(f"{failed.name} has {failed.status}: {failed.reason}")
            self.stage.check()
            if time.monotonic() > deadline:
                raise ClearflowError(f"waited {_PATIENCE:g} s for {what}")
            await asyncio.sleep(0.4)

    async def _look(self, api: Api, show: Show) -> None:
        """What has changed since the last look, shown as it comes."""
        by_id = {t.id: t for t in self.trainings}
        async for run in runs.find(api, {"id": {"any_": list(by_id)}}):
            training = by_id[run.id]
            before = training.status
            training.take_in(run, api.clock.now())
            if training.status != before:
                at = f" ({training.agent})" if training.status in {"starting", "running"} else ""
                show.line(f"{training.name:<10} {training.status}{at}")
        for training in self.trainings:
            if training.status == "queued" or training.silent(api.clock.now()):
                continue
            async for line in logs.read(api, [training.id], skip=training.lines):
                training.lines += 1
                if line.logger.startswith("prefect"):
                    continue
                if line.logger == "console":
                    training.last = line.message
                    training.reproduced |= line.message == project.UNCOMMITTED
                show.line(f"{training.name:<10} | {line.message}")
        show.refresh()

    def complaints(self) -> list[str]:
        """What did not go as it should have."""
        found = []
        for each in self.trainings[1:]:
            if each.status != "completed" or each.accuracy is None:
                found.append(f"{each.name} has {each.status}: {each.reason}")
            elif not each.reproduced:
                found.append(f"{each.name} ran without the line that nobody has committed")
        if self.first.status != "aborted":
            found.append(f"{self.first.name} was to be aborted and has {self.first.status}")
        if not self.behind:
            found.append("no training was left to be overtaken")
        moved = self.last.started
        for each in self.trainings:
            if each.id in self.behind and moved and each.started and each.started < moved:
                found.append(f"{each.name} started before {self.last.name}, which was moved")
        return found

    def report(self, as_json: bool) -> int:
        """The results, and how to go on; the exit code."""
        complaints = self.complaints()
        if as_json:
            print_json(self._json(complaints))
        else:
            self._table()
        for complaint in complaints:
            say(f"error: {complaint}")
        if self.stage.keep or not self.stage.own_server:
            say(f"In the Prefect UI: {self.stage.where.ui_url}/runs")
        if self.stage.keep:
            for name in self.stage.agents:
                step(f"clearflow agent stop {name}", "stops an agent")
            if self.stage.own_server:
                step("clearflow up --stop", "stops the server; its data are kept")
        else:
            say("What was started is stopped and removed now; --keep leaves it running.")
        return 1 if complaints else 0

    def _json(self, complaints: list[str]) -> dict[str, Any]:
        return {
            "server": self.stage.where.ui_url,
            "queue": self.stage.queue,
            "worked": not complaints,
            "trainings": [
                {
                    "id": t.id,
                    "name": t.name,
                    "parameters": dict(t.parameters),
                    "status": t.status,
                    "agent": t.agent,
                    "seconds": t.seconds,
                    "accuracy": t.accuracy,
                    "url": self.stage.where.run_url(t.id),
                }
                for t in self.trainings
            ],
        }

    def _table(self) -> None:
        from rich.console import Console

        Console().print(table(self))


def _let_look_around(stage: Stage) -> None:
    """A person may look at the Prefect UI before the server goes; nobody else is waited for."""
    if not (is_terminal() and sys.stdin.isatty()):
        return
    say(f"Look at {stage.where.ui_url}/runs now. Enter ends it, and so do {_LOOKING:g} seconds.")
    if select.select([sys.stdin], [], [], _LOOKING)[0]:
        sys.stdin.readline()


def table(play: Play) -> RenderableType:
    """The trainings, those that started last at the bottom."""
    from rich import box
    from rich.table import Table

    columns = ["training", "status", "agent", "loss", "alpha", "seconds", "accuracy"]
    found = Table(*columns, box=box.SIMPLE_HEAD)
    waiting = [t for t in play.trainings if t.started is None]
    started = [t for t in play.trainings if t.started is not None]
    for each in [*sorted(started, key=lambda t: str(t.started)), *waiting]:
        seconds = f"{each.seconds:.1f}" if each.seconds is not None else ""
        accuracy = f"{each.accuracy:.1%}" if each.accuracy is not None else ""
        loss, alpha = str(each.parameters["loss"]), f"{each.parameters['alpha']:g}"
        name = f"[link={play.stage.where.run_url(each.id)}]{each.name}[/link]"
        row = [name, each.status, each.agent or "", loss, alpha, seconds, accuracy]
        found.add_row(*row)
    return found


class Show:
    """Lines as they come, and on a terminal a table of the trainings below them."""

    def __init__(self, play: Play) -> None:
        self._play = play

    def line(self, text: str) -> None:
        say(text)

    def refresh(self) -> None:
        """Show the table as it is now."""


class _Live(Show):
    def __init__(self, play: Play, live: Any) -> None:
        super().__init__(play)
        self._live = live

    def refresh(self) -> None:
        self._live.update(table(self._play))


@contextlib.contextmanager
def _shown(play: Play) -> Iterator[Show]:
    if not is_terminal():
        yield Show(play)
        return
    from rich.console import Console
    from rich.live import Live

    # What is printed meanwhile goes above the table.
    with Live(table(play), console=Console(stderr=True), transient=True) as live:
        yield _Live(play, live)
