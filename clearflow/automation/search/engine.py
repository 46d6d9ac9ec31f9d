"""The loop of a search: launch trials, hear of them, learn, launch others.

    events with the tag of the search ─ look at those trials ─┬─ reported ─ stop it, or not
                                                              └─ ended ─ learn ─ the next one

Nothing is kept here that would be missed: the trials are tasks that carry their point and how they
ended, so a controller that was killed begins again where it was, and doubles none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from clearflow import clock
from clearflow._prefect import events, runs
from clearflow._prefect.events import CONNECTED
from clearflow._prefect.http import Api
from clearflow.automation import launching
from clearflow.automation.launching import Launch
from clearflow.automation.search import judging, limits, trials
from clearflow.automation.search.report import Report
from clearflow.automation.search.settings import SearchSettings
from clearflow.automation.search.strategies import FAILED, PRUNED, Ended, Steps, strategy
from clearflow.automation.search.trials import STOPPED, Trial
from clearflow.errors import ClearflowError, NotFound, Refused
from clearflow.tasks import abort as aborting
from clearflow.tasks.describe import name_of
from clearflow.words.models import CANCELLING, Run
from clearflow.words.names import CONTROLS, REPORTED, SEARCH
from clearflow.words.spaces import Point
from clearflow.words.tagging import ARCHIVED

# Events come before the commit.
_AGAIN = (0.05, 0.3, 1.0, 3.0)
_SLOW = 30.0  # seconds between two looks that nothing has caused, should events be missed
BEGAN = "clearflow.search.began"
OUT_OF_TIME = "the search is out of time"

Say = Callable[[str], None]


class Search:
    """The search that a task is; `say` is told in a line what it does."""

    def __init__(
        self,
        api: Api,
        run: Run,
        settings: SearchSettings,
        say: Say,
        ended: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        self._api, self._task, self._settings, self._say = api, run, settings, say
        self._told = ended
        self._objectives = settings.objectives
        self._space = settings.space
        self.trials: dict[int, Trial] = {}
        self._active: dict[int, Trial] = {}
        self._closed = ""
        self._began = api.clock.now()
        self._limit, self._ask_limit = str(run.labels.get(limits.LIMIT) or ""), False
        self._report = Report(api, run.id, settings)
        self._woken = asyncio.Event()
        self._all = True
        # Runs that something was heard of, and how often they were looked at since.
        self._dirty: dict[str, int] = {}

    # -- the loop -----------------------------------------------------------------------------

    async def run(self) -> Trial | None:
        """Until it is over: the best trial. Raises ClearflowError when no trial was good."""
        await self._begin()
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                await self._look()
                await self._in_time()
                await self._fill()
                await self._report.make(list(self.trials.values()), last=not self._active)
                if not self._active:
                    return self._result()
                await self._wait()
                if listening.done():
                    await listening
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    async def _begin(self) -> None:
        """Take up what there is of an earlier controller."""
        began = self._task.labels.get(BEGAN)
        if began:
            self._began = clock.parse(str(began))
        said = {CONTROLS: SEARCH, BEGAN: self._began.isoformat()}
        await runs.label(self._api, self._task.id, said)
        found = await trials.trials(self._api, self._task.task_id)
        earlier = [
            trial
            for search in self._settings.continue_from
            for trial in await trials.trials(self._api, search)
            if trial.ended is not None
        ]
        self._strategy = strategy(
            self._settings, self._task.task_id, known=len(found) + len(earlier)
        )
        for number, trial in enumerate(earlier):
            assert trial.ended is not None
            steps = await self._steps(trial)
            self._strategy.ended(number - len(earlier), trial.point, steps, trial.ended)
        for trial in found:
            self.trials[trial.number] = trial
            if trial.ended is not None:
                steps = await self._steps(trial)
                self._strategy.ended(trial.number, trial.point, steps, trial.ended)
            else:
                self._active[trial.number] = trial
                self._strategy.running(trial.number, trial.point)
                self._dirty[trial.run.id] = 0
        if found:
            done = len(found) - len(self._active)
            self._say(f"goes on: {done} trials have ended, {len(self._active)} have not")

    async def _steps(self, trial: Trial) -> Steps:
        """What a trial reported that has ended, where somebody compares others with it."""
        if self._settings.pruner is None:
            return ()
        curves = await judging.curves(self._api, trial.run, self._objectives)
        return judging.reached(curves, self._objectives)

    async def _listen(self) -> None:
        resources = [f"prefect.tag.{trials.mark(self._task.task_id)}"]
        names = [f"{events.FLOW_RUN}*", REPORTED, limits.LIMIT]
        async for event in events.stream(self._api.connection, resources, names):
            if event is CONNECTED:
                self._all = self._ask_limit = True
            elif event.name == limits.LIMIT:
                self._ask_limit = True
            else:
                inside = event.related.get("flow-run", "").removeprefix(events.FLOW_RUN)
                run = event.run_id or inside
                if event.name == REPORTED:
                    self._dirty.setdefault(run, len(_AGAIN) - 1)
                elif event.state is None or event.state.final:
                    self._dirty[run] = 0
                else:
                    continue
            self._woken.set()

    async def _wait(self) -> None:
        pause = _SLOW
        if self._dirty:
            pause = _AGAIN[min(self._dirty.values())]
        now = self._api.clock.now()
        if not self._closed and (end := self._until(now)) is not None:
            pause = min(pause, max((end - now).total_seconds(), 0.0))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._woken.wait()
        self._woken.clear()
        self._all = self._all or not self._dirty

    # -- what has become of trials -------------------------------------------------------------

    async def _look(self) -> None:
        """At the trials of which something was heard; now and then at all that have not ended."""
        dirty, everything, self._all = dict(self._dirty), self._all, False
        wanted = [t for t in self._active.values() if everything or t.run.id in dirty]
        for trial, run in await self._fresh(wanted):
            await self._look_at(trial, run)
        left = {trial.run.id for trial in self._active.values()}
        for run_id, tries in dirty.items():
            if self._dirty.get(run_id) == tries:  # else there is news of it
                self._dirty[run_id] = tries + 1
            if run_id not in left or self._dirty[run_id] >= len(_AGAIN):
                del self._dirty[run_id]

    async def _fresh(self, wanted: Sequence[Trial]) -> list[tuple[Trial, Run | None]]:
        """Trials with their runs as they are now; None for one that was deleted."""
        known: dict[str, Run] = {}
        for start in range(0, len(wanted), runs.PAGE):
            where = {"id": {"any_": [t.run.id for t in wanted[start : start + runs.PAGE]]}}
            known.update({run.id: run async for run in runs.find(self._api, where)})
        found: list[tuple[Trial, Run | None]] = []
        for trial in wanted:
            run = known.get(trial.run.id)
            if run is None:
                # It has gone to another queue, or somebody has deleted it.
                with contextlib.suppress(NotFound):
                    run = await runs.resolve(self._api, trial.task)
            found.append((trial, run))
        return found

    async def _look_at(self, trial: Trial, run: Run | None) -> None:
        if run is None:
            await self._settle(trial, (), Ended(FAILED, reason="it was deleted"))
            return
        trial.run = run
        assert run.state is not None
        if run.state.final:
            curves = await judging.curves(self._api, run, self._objectives)
            status = run.status(self._api.clock.now())
            how = judging.judged(trial, curves, self._objectives, status)
            await self._settle(trial, judging.reached(curves, self._objectives), how)
        elif trial.stopped:
            if run.state.type != CANCELLING:
                await self._abort(trial)
        elif self._settings.looks_inside and run.started is not None:
            await self._look_inside(trial)

    async def _look_inside(self, trial: Trial) -> None:
        """At what a trial that runs has reported."""
        curves = await judging.curves(self._api, trial.run, self._objectives)
        reached = judging.reached(curves, self._objectives)
        if not reached or reached[-1][0] <= trial.heard:
            return
        trial.heard = reached[-1][0]
        most = self._settings.max_iteration_per_job
        if self._strategy.prunes(trial.number, reached):
            await self._stop(trial, f"{PRUNED} at iteration {trial.heard}")
        elif most is not None and trial.heard >= most:
            await self._stop(trial, f"it has come to iteration {trial.heard} of {most}")

    async def _settle(self, trial: Trial, steps: Steps, how: Ended) -> None:
        """A trial has ended: learn from it, and note it with its task."""
        if trial.run.state is not None and trial.run.state.final:
            await trials.settle(self._api, self._task.task_id, trial, how)
        trial.ended = how
        del self._active[trial.number]
        self._strategy.ended(trial.number, trial.point, steps, how)
        numbers = [f"{v:.6g}" for v in how.values or ()]
        what = ", ".join(f"{o.name} {n}" for o, n in zip(self._objectives, numbers, strict=False))
        self._say(f"trial {trial.number} {how.how}: {what or how.reason}")
        self._told(trial)
        await self._archive()
        self._give_up()

    def _give_up(self) -> None:
        """A base task that cannot work is not tried for ever."""
        ended = [t.ended for t in self.trials.values() if t.ended is not None]
        bad = [each for each in ended if each.how == FAILED]
        if len(bad) >= self._settings.max_failures and len(bad) == len(ended):
            raise ClearflowError(
                f"the first {len(bad)} trials have failed; the last one: {bad[-1].reason}",
                hint="does the base task work? max_failures says how many are too many",
            )

    async def _archive(self) -> None:
        """All but the best are put away, where that is wanted."""
        most = self._settings.save_top_k_tasks_only
        if most is None:
            return
        kept = trials.best(list(self.trials.values()), self._objectives)[:most]
        for trial in self.trials.values():
            run = trial.run
            if trial.ended is None or trial in kept or ARCHIVED in run.tags:
                continue
            with contextlib.suppress(NotFound):
                await runs.patch(self._api, run.id, tags=[*run.tags, ARCHIVED])
                trial.run = replace(run, tags=(*run.tags, ARCHIVED))

    # -- stopping and starting -----------------------------------------------------------------

    async def _stop(self, trial: Trial, why: str) -> None:
        """Abort a trial; why is with its task before that, for whoever finds it ended."""
        await runs.label(self._api, trial.run.id, {STOPPED: why})
        trial.run = replace(trial.run, labels={**trial.run.labels, STOPPED: why})
        await self._abort(trial)

    async def _abort(self, trial: Trial) -> None:
        with contextlib.suppress(Refused, NotFound):
            await aborting.abort(self._api, [trial.run], by=f"the search: {trial.stopped}")

    def _until(self, now: datetime) -> datetime | None:
        tasks = [trial.run for trial in self.trials.values()]
        return limits.until(self._settings, self._began, tasks, now, self._limit)

    async def _in_time(self) -> None:
        if self._ask_limit:
            self._ask_limit = False
            fresh = await runs.read(self._api, self._task.id)
            self._limit = str(fresh.labels.get(limits.LIMIT) or "")
        now = self._api.clock.now()
        end = self._until(now)
        if self._closed or end is None or now < end:
            return
        self._close(OUT_OF_TIME)
        for trial in list(self._active.values()):
            await self._stop(trial, OUT_OF_TIME)

    async def _fill(self) -> None:
        """Launch as many trials as may run."""
        while not self._closed and len(self._active) < self._most:
            number = max(self.trials, default=0) + 1
            total = self._settings.total_max_jobs
            if total is not None and number > total:
                self._close(f"{total} trials are enough")
                return
            point = self._strategy.ask(number)
            if point is None:
                self._close("all points have been looked at")
                return
            await self._launch(number, point)

    @property
    def _most(self) -> int:
        return self._settings.max_number_of_concurrent_tasks

    def _close(self, why: str) -> None:
        """Launch no more."""
        self._closed = why
        self._say(f"no further trial: {why}")

    async def _launch(self, number: int, point: Point) -> None:
        settings, search = self._settings, self._task.task_id
        limit = settings.time_limit_per_job
        title = name_of(self._task)
        order = Launch(
            task=settings.base_task_id,
            queue=settings.execution_queue,
            parameters=self._space.valued(point),
            overrides=settings.task_overrides,
            name=f"{title}: trial {number}",
            tags=[trials.mark(search)],
            target_project=settings.spawn_project,
            time_limit_hours=None if limit is None else limit / 60,
            key=f"search {search} {number}",
            origin=f"search {search}",
            cause=f"search {title!r}, trial {number}",
            links=trials.links(search, number, point, settings.looks_inside),
        )
        run = await launching.launch(self._api, order, by=self._task.owner or "a search")
        assert run is not None
        self.trials[number] = self._active[number] = Trial.parse(run)
        words = ", ".join(f"{n}={v}" for n, v in self._space.valued(point).items())
        self._say(f"trial {number}: {words}")

    def _result(self) -> Trial | None:
        found = trials.best(list(self.trials.values()), self._objectives)
        if not found:
            ended = [t.ended for t in self.trials.values() if t.ended is not None]
            last = f"; the last one: {ended[-1].reason}" if ended else ""
            raise ClearflowError(f"none of {len(self.trials)} trials has come to a value{last}")
        winner = found[0]
        assert winner.ended is not None
        values = ", ".join(
            f"{o.name} {v:.6g}"
            for o, v in zip(self._objectives, winner.ended.values or (), strict=True)
        )
        self._say(f"the best of {len(self.trials)} trials is {winner.number}: {values}")
        return winner
