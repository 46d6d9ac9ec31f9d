"""`TaskScheduler` under ClearML's names: tasks that are launched by the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.targets import target
from clearflow.client.tasks import Tasks
from clearflow.errors import Usage
from clearflow.words.parameters import plain

if TYPE_CHECKING:
    Selected = Mapping[str, Any]
    TaskLike = Tasks | str
    Words = Mapping[str, Any] | None


class TaskScheduler:
    """A group of schedules, shown as a thing of its own in a project.

    What `add_task` is given is checked at once, and made so in Prefect by `start` or
    `start_remotely`; nothing has to keep running. After that every change counts at once.

    When: `cron`, or ClearML's words. One of them alone is an interval (`minute=15`); of several
    the longest is the period and the shorter ones say at which moment (`day=1, hour=8, minute=30`
    is every day at 8:30); `weekdays` with `day=0` or `day=1` are at that time on these days; a
    `year` from 2000 on is one date. All of it in the `timezone`, such as Europe/Berlin.

    What `add_task` takes beside that:

        schedule_task_id: the task, or its id; each time a copy of it as it is then is queued.
        schedule_function: instead of a task a function at the top level of a file; a task that
            calls it is made of the file as it is now.
        queue: of the launched task; that of its source without one.
        name: of the schedule; the task's id, or what it launches, without one.
        selector: instead of a task the latest that fits when the time comes: `project`, `name`,
            `pattern`, `tags`, `statuses`, `user`.
        flow: instead of a task a deployment, by its id or as flow/name.
        target_project, task_name, tags: of the launched task.
        limit_execution_time: hours; then the launched task is aborted.
        single_instance: launch nothing while the one before has not ended.
        recurring: whether again and again; once, the next time, without it.
        execute_immediately: also at once; only at once when nothing is said of the time.
        reuse_task: queue the task itself again, whatever became of it.
        task_parameters: by flat names such as `Args/lr`; `${schedule.date}`,
            `${schedule.time:%H:%M}`, `${schedule.number}`, `${previous.status}`,
            `${previous.id}`, `${previous.values.…}` and others are filled in at that moment.
        task_overrides: what the task asks of its machine, such as `{"gpus": 1}`.
        missed: of fires that nobody dealt with in time `all`, `once` (the last), or `skip`.
        direct: Prefect queues the task itself, as it is now, without anybody looking.
    """

    def __init__(
        self,
        name: str = "scheduler",
        project_name: str = "Schedules",
        *,
        force_create_task_name: str | None = None,
        force_create_task_project: str | None = None,
        sync_frequency_minutes: float | None = None,
    ) -> None:
        """`sync_frequency_minutes` has no effect: nobody has to look now and then."""
        self.name = force_create_task_name or name
        self.project_name = force_create_task_project or project_name
        self._jobs: dict[str, dict[str, Any]] = {}
        self._queue = "services"
        self._started = False

    def add_task(
        self,
        schedule_task_id: TaskLike | None = None,
        queue: str | None = None,
        name: str | None = None,
        *,
        schedule_function: Callable[..., Any] | None = None,
        selector: Selected | None = None,
        flow: str | None = None,
        target_project: str | None = None,
        cron: str | None = None,
        minute: int | None = None,
        hour: int | None = None,
        day: int | None = None,
        weekdays: Sequence[str] | None = None,
        month: int | None = None,
        year: int | None = None,
        timezone: str = "UTC",
        limit_execution_time: float | None = None,
        single_instance: bool = False,
        recurring: bool = True,
        execute_immediately: bool = False,
        reuse_task: bool = False,
        task_parameters: Words = None,
        task_overrides: Words = None,
        tags: Sequence[str] = (),
        missed: str = "all",
        direct: bool = False,
        task_name: str | None = None,
    ) -> bool:
        """Launch a task again and again, or once; the class says what the arguments are.

        Raises Usage and NotFound, in one line, for what cannot work.
        """
        if (name or "") in self._jobs:
            self._refuse(str(name))
        task, _ = target(schedule_task_id, schedule_function, self.project_name)
        launch = {
            "task": task,
            "choice": dict(selector) if selector else None,
            "deployment": flow,
            "queue": queue,
            "parameters": plain(dict(task_parameters or {})),
            "overrides": plain(dict(task_overrides or {})),
            "name": task_name,
            "tags": list(tags),
            "target_project": target_project,
            "single_instance": single_instance,
            "reuse": reuse_task,
            "time_limit_hours": limit_execution_time,
        }
        job = {
            "name": name or _name_of(schedule_function) or task or flow or _words(selector),
            "launch": {k: v for k, v in launch.items() if v not in (None, {}, [], False)},
            "cron": cron,
            "minute": minute,
            "hour": hour,
            "day": day,
            "weekdays": [weekdays] if isinstance(weekdays, str) else list(weekdays or ()),
            "month": month,
            "year": year,
            "timezone": timezone,
            "recurring": recurring,
            "execute_immediately": execute_immediately,
            "missed": missed,
            "direct": direct,
        }
        self._add(job)
        return True

    def _add(self, job: dict[str, Any]) -> None:
        title = job["name"]
        if title in self._jobs:
            self._refuse(title)
        door.ask("schedule.check", jobs=[job])
        self._jobs[title] = job
        if self._started:
            self._put([job])

    def _refuse(self, title: str) -> None:
        raise Usage(f"two schedules have the name {title!r}", hint="each needs a name of its own")

    def start(self) -> None:
        """Make it so. Nothing of it runs in this program, which may end."""
        self.start_remotely(self._queue)

    def start_remotely(self, queue: str = "services") -> None:
        """Make it so; agents of this queue launch what is due.

        Schedules of the same name are replaced, and others of this scheduler stay.
        """
        self._queue = queue
        self._put(list(self._jobs.values()))
        self._started = True

    def get_scheduled_tasks(self) -> list[dict[str, Any]]:
        """The schedules there are, with what comes next; before the start those of this program."""
        there = door.ask("schedule.list", scheduler=self.name, project=self.project_name)
        known = {each["name"] for each in there}
        return [*there, *(job for name, job in self._jobs.items() if name not in known)]

    def remove_task(self, task_id: TaskLike) -> bool:
        """Remove a schedule by its name, or those of a task by its id; False without any."""
        word = task_id.id if isinstance(task_id, Tasks) else str(task_id)
        found = [
            each["name"]
            for each in self.get_scheduled_tasks()
            if word in (each["name"], each["launch"].get("task"))
        ]
        there = {each["name"] for each in self._listed()}
        for name in found:
            self._jobs.pop(name, None)
            if name in there:
                door.ask("schedule.remove", job=name, **self._where)
        return bool(found)

    def pause(self, name: str) -> None:
        """Switch a schedule off. What is due meanwhile is not made up for."""
        door.ask("schedule.active", job=name, active=False, **self._where)

    def resume(self, name: str) -> None:
        """Switch it on again."""
        door.ask("schedule.active", job=name, active=True, **self._where)

    def run_now(self, name: str) -> None:
        """Launch what it launches, beside its times."""
        door.ask("schedule.now", job=name, **self._where)

    @property
    def _where(self) -> dict[str, str]:
        return {"scheduler": self.name, "project": self.project_name}

    def _listed(self) -> list[dict[str, Any]]:
        return list(door.ask("schedule.list", **self._where))

    def _put(self, jobs: list[dict[str, Any]]) -> None:
        door.ask("schedule.put", jobs=jobs, queue=self._queue, **self._where)


def _name_of(function: Callable[..., Any] | None) -> str | None:
    return getattr(function, "__name__", None)


def _words(selector: Selected | None) -> str:
    if not selector:
        raise Usage("schedule which task?", hint="schedule_task_id=…, selector=… or flow=…")
    return " ".join(f"{key} {value}" for key, value in selector.items())
