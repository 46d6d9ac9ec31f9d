"""`TriggerScheduler` under ClearML's names: tasks that are launched when something happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.targets import target
from clearflow.client.tasks import Tasks, status_word
from clearflow.errors import Usage
from clearflow.words.parameters import plain
from clearflow.words.triggers import sign_of

if TYPE_CHECKING:
    Selected = Mapping[str, Any]
    TaskLike = Tasks | str
    Words = Mapping[str, Any] | None
    Tags = str | Sequence[str] | None


class TriggerScheduler:
    """A group of triggers, shown as a thing of its own in a project.

    What the `add_…_trigger` are given is checked at once, and made so in Prefect by `start` or
    `start_remotely`; nothing has to keep running. After that every change counts at once.

    A trigger fires each time it happens again: a second tagging, a second failure, the metric that
    comes below the threshold once more; exactly once for each event. What it asks of the thing
    has to hold then, all of it. It does not fire for what tasks do that it has launched itself.

    What all of them take:

        schedule_task_id: the task, or its id; each time a copy of it as it is then is queued.
        schedule_function: instead of a task a function at the top level of a file; a task that
            calls it is made of the file as it is now. Its first argument is the id of what fired.
        schedule_queue: of the launched task; that of its source without one.
        selector: instead of a task the latest that fits when it happens: `project`, `name`,
            `pattern`, `tags`, `statuses`, `user`.
        flow: instead of a task a deployment, by its id or as flow/name.
        trigger_project: where it has to happen; anywhere without one.
        trigger_name: a regular expression, searched in the name.
        trigger_on_tags: all of these, which are the ones that it waits for.
        trigger_on_any_tags: one of these.
        trigger_required_tags: all of these too.
        name: of the trigger; from what it waits for without one.
        add_tag: of the launched task: the trigger's name (True), another one, or none (False).
        target_project, task_name, tags: of the launched task.
        single_instance: launch nothing while the one before has not ended.
        reuse_task: queue the task itself again, whatever became of it.
        limit_execution_time: hours; then the launched task is aborted.
        task_parameters: by flat names such as `Args/dataset`; `${dataset.id}`, `${model.id}`,
            `${task.id}`, and beside `id` also `name`, `project`, `version`, `tags`, `changed`,
            `status`, `by`, `task`, `value`, `parameters.…`, are filled in when it fires.
        task_overrides: what the task asks of its machine, such as `{"gpus": 1}`.
    """

    def __init__(
        self,
        name: str = "triggers",
        project_name: str = "Triggers",
        *,
        force_create_task_name: str | None = None,
        force_create_task_project: str | None = None,
        pooling_frequency_minutes: float | None = None,
        sync_frequency_minutes: float | None = None,
    ) -> None:
        """The frequencies have no effect: nobody has to look now and then."""
        self.name = force_create_task_name or name
        self.project_name = force_create_task_project or project_name
        self._triggers: dict[str, dict[str, Any]] = {}
        self._queue = "services"
        self._started = False

    def add_dataset_trigger(
        self,
        schedule_task_id: TaskLike | None = None,
        schedule_queue: str | None = None,
        *,
        trigger_on_publish: bool = False,
        trigger_on_archive: bool = False,
        **options: Any,
    ) -> bool:
        """Launch a task when a dataset version gets tags, is published or archived.

        Without any of that: when one is finalized. One that is not finalized fires when it is.
        The class says what the other arguments are. Raises Usage and NotFound, in one line.
        """
        more = {"on_publish": trigger_on_publish, "on_archive": trigger_on_archive}
        return self._add("dataset", schedule_task_id, schedule_queue, more, options)

    def add_model_trigger(
        self,
        schedule_task_id: TaskLike | None = None,
        schedule_queue: str | None = None,
        *,
        trigger_on_publish: bool = False,
        trigger_on_archive: bool = False,
        **options: Any,
    ) -> bool:
        """Launch a task when a model gets tags, is published or archived.

        Without any of that: when one is made. The class says what the other arguments are.
        """
        more = {"on_publish": trigger_on_publish, "on_archive": trigger_on_archive}
        return self._add("model", schedule_task_id, schedule_queue, more, options)

    def add_task_trigger(
        self,
        schedule_task_id: TaskLike | None = None,
        schedule_queue: str | None = None,
        *,
        trigger_on_status: str | Sequence[str] | None = None,
        trigger_on_publish: bool = False,
        trigger_on_archive: bool = False,
        trigger_on_metric: str | None = None,
        trigger_on_variant: str | None = None,
        trigger_on_threshold: float | None = None,
        trigger_on_sign: str = "minimum",
        trigger_exclude_dev_tasks: bool = False,
        **options: Any,
    ) -> bool:
        """Launch a task when another one comes to a status, gets tags, or reports a value.

        Args:
            trigger_on_status: draft, queued, running, completed, failed (also crashed), crashed,
                aborted, published; ClearML's words too.
            trigger_on_metric: the title of a scalar, with its series as `trigger_on_variant`.
            trigger_on_threshold: fires when the value comes to be at most this (`trigger_on_sign`
                min or minimum), or at least this (max, maximum), and was not before.
            trigger_exclude_dev_tasks: not for tasks that no agent runs.

        The class says what the other arguments are.
        """
        more = {
            "statuses": [status_word(each) for each in _tags(trigger_on_status)],
            "on_publish": trigger_on_publish,
            "on_archive": trigger_on_archive,
            "exclude_local": trigger_exclude_dev_tasks,
            "metric": trigger_on_metric,
            "variant": trigger_on_variant,
            "threshold": trigger_on_threshold,
            "sign": sign_of(trigger_on_sign),
        }
        return self._add("task", schedule_task_id, schedule_queue, more, options)

    def _add(
        self,
        kind: str,
        task: TaskLike | None,
        queue: str | None,
        more: dict[str, Any],
        options: dict[str, Any],
    ) -> bool:
        function = options.pop("schedule_function", None)
        asked = {**_waits(options), **more}
        trigger = {
            "name": options.pop("name", None) or _title(kind, asked),
            "kind": kind,
            **{k: v for k, v in asked.items() if v is not None and v is not False and v != []},
            **_tag(options.pop("add_tag", True)),
        }
        name = trigger["name"]
        if name in self._triggers:
            raise Usage(f"two triggers have the name {name!r}", hint="each needs a name of its own")
        launch = _launch(queue, options)
        if options:
            raise TypeError(f"add_{kind}_trigger() has no argument {next(iter(options))!r}")
        launch["task"], filled = target(task, function, self.project_name, f"${{{kind}.id}}")
        launch["parameters"] = {**filled, **launch.get("parameters", {})}
        trigger["launch"] = {k: v for k, v in launch.items() if v not in (None, {})}
        door.ask("trigger.check", triggers=[trigger])
        self._triggers[name] = trigger
        if self._started:
            self._put([trigger])
        return True

    def start(self) -> None:
        """Make it so. Nothing of it runs in this program, which may end."""
        self.start_remotely(self._queue)

    def start_remotely(self, queue: str = "services") -> None:
        """Make it so; agents of this queue launch what is asked for.

        Triggers of the same name are replaced, and others of this group stay.
        """
        self._queue = queue
        self._put(list(self._triggers.values()))
        self._started = True

    def get_triggers(self) -> list[dict[str, Any]]:
        """The triggers there are, with what they launched; before the start this program's."""
        there = door.ask("trigger.list", **self._where)
        known = {each["name"] for each in there}
        return [*there, *(t for name, t in self._triggers.items() if name not in known)]

    def remove_trigger(self, name: str) -> bool:
        """Remove a trigger; the tasks that it has launched stay. False without one."""
        there = {each["name"] for each in door.ask("trigger.list", **self._where)}
        known = self._triggers.pop(name, None) is not None
        if name in there:
            door.ask("trigger.remove", trigger=name, **self._where)
        return known or name in there

    def pause(self, name: str) -> None:
        """Switch a trigger off. What happens meanwhile is not made up for."""
        door.ask("trigger.active", trigger=name, active=False, **self._where)

    def resume(self, name: str) -> None:
        """Switch it on again."""
        door.ask("trigger.active", trigger=name, active=True, **self._where)

    @property
    def _where(self) -> dict[str, str]:
        return {"scheduler": self.name, "project": self.project_name}

    def _put(self, triggers: list[dict[str, Any]]) -> None:
        door.ask("trigger.put", triggers=triggers, queue=self._queue, **self._where)


def _waits(options: dict[str, Any]) -> dict[str, Any]:
    """What all triggers may wait for, taken out of the options."""
    return {
        "project": options.pop("trigger_project", None),
        "pattern": options.pop("trigger_name", None),
        "tags": _tags(options.pop("trigger_on_tags", None)),
        "any_tags": _tags(options.pop("trigger_on_any_tags", None)),
        "required_tags": _tags(options.pop("trigger_required_tags", None)),
    }


def _launch(queue: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """What is launched and how, but for the task, taken out of the options."""
    selector = options.pop("selector", None)
    launch = {
        "choice": dict(selector) if selector else None,
        "deployment": options.pop("flow", None),
        "queue": queue,
        "parameters": plain(dict(options.pop("task_parameters", None) or {})),
        "overrides": plain(dict(options.pop("task_overrides", None) or {})),
        "name": options.pop("task_name", None),
        "tags": _tags(options.pop("tags", None)),
        "target_project": options.pop("target_project", None),
        "single_instance": options.pop("single_instance", False),
        "reuse": options.pop("reuse_task", False),
        "time_limit_hours": options.pop("limit_execution_time", None),
    }
    return {k: v for k, v in launch.items() if v not in (None, {}, [], False)}


def _tags(said: Tags) -> list[str]:
    return [said] if isinstance(said, str) else list(said or ())


def _tag(said: bool | str) -> dict[str, Any]:
    if isinstance(said, str):
        return {"add_tag": said}
    return {} if said else {"no_tag": True}


def _title(kind: str, asked: Mapping[str, Any]) -> str:
    """A name from what a trigger waits for."""
    words = [kind]
    for key, value in asked.items():
        if value is True:
            words.append(key.replace("_", " "))
        elif value is not None and value is not False and value != [] and value != "min":
            words.append(" ".join(value) if isinstance(value, list) else str(value))
    return " ".join(words)
