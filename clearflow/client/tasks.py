"""Finding tasks, making new ones, and putting them into queues."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clearflow.client import door, functions
from clearflow.client.needs import Needs, docker_job
from clearflow.errors import NotFound, Usage
from clearflow.words.parameters import KWARGS
from clearflow.words.tagging import ARCHIVED

if TYPE_CHECKING:
    from typing import Self

_STATUSES = {
    "created": "draft",
    "in_progress": "running",
    "stopped": "aborted",
    "closed": "completed",
    "pending": "queued",
}


class Tasks(Needs):
    """The part of a task's class that finds and makes others."""

    def __init__(self, id: str, name: str = "") -> None:
        super().__init__(id)
        self._title = name

    @classmethod
    def _of(cls, seen: Mapping[str, Any]) -> Self:
        return cls(seen["id"], seen["name"])

    @classmethod
    def current_task(cls) -> Self | None:
        """The task that this program is; None when it is none."""
        return None

    @classmethod
    def get_task(
        cls,
        task_id: str | None = None,
        project_name: str | None = None,
        task_name: str | None = None,
        tags: str | Sequence[str] | None = None,
        allow_archived: bool = True,
        task_filter: Mapping[str, Any] | None = None,
    ) -> Self:
        """A task by its id, or the latest that fits. `task_name` is the whole name.

        `tags` are any of them; `__$all`, `__$any`, `__$not` and a minus sign as in ClearML.
        `task_filter` is as for `get_tasks`. Raises NotFound when there is none.
        """
        if task_id is not None:
            return cls._of(door.ask("describe", task=task_id))
        named = [tags] if isinstance(tags, str) else list(tags or ())
        if not allow_archived:
            named = [*named, f"-{ARCHIVED}"]
        where = _filter(task_filter)
        asked = {"project": project_name, "name": task_name, "tags": named, "where": where}
        found = door.ask("find", **asked, limit=1)
        if not found:
            asked = {"project": project_name, "name": task_name, "tags": named or None}
            words = ", ".join(f"{k} {v!r}" for k, v in asked.items() if v is not None)
            raise NotFound(f"there is no task of {words}" if words else "there is no task")
        return cls._of(found[0])

    @classmethod
    def get_tasks(
        cls,
        task_ids: Sequence[str] | None = None,
        project_name: str | None = None,
        task_name: str | None = None,
        tags: str | Sequence[str] | None = None,
        task_filter: Mapping[str, Any] | None = None,
    ) -> list[Self]:
        """All tasks that fit, the latest first. `task_name` is a regular expression.

        `task_filter` is ClearML's: `status`, `type`, `user`, `project`, `parent`, `id`, `name`,
        `tags`, `search_text`, ranges of `created`, `started`, `completed` and `last_update`,
        `_any_`, `_all_`, `order_by`, `page` and `page_size`. Raises Usage for what it is not.
        """
        found = cls._found(task_ids, project_name, task_name, tags, task_filter)
        return [cls._of(seen) for seen in found]

    @classmethod
    def query_tasks(
        cls,
        project_name: str | Sequence[str] | None = None,
        task_name: str | None = None,
        tags: str | Sequence[str] | None = None,
        additional_return_fields: Sequence[str] | None = None,
        task_filter: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """The ids of all tasks that fit, as for `get_tasks`.

        With `additional_return_fields`, such as `status`, `name`, `started` or `properties`, a
        dictionary of these and the id for each.
        """
        found = cls._found(None, project_name, task_name, tags, task_filter)
        if additional_return_fields is None:
            return [seen["id"] for seen in found]
        fields = list(additional_return_fields)
        if found and (unknown := [name for name in fields if name not in found[0]]):
            known = ", ".join(found[0])
            raise Usage(f"a task has no field {', '.join(unknown)}", hint=f"it has {known}")
        return [{"id": seen["id"], **{name: seen[name] for name in fields}} for seen in found]

    @classmethod
    def _found(
        cls,
        ids: Sequence[str] | None,
        project: str | Sequence[str] | None,
        pattern: str | None,
        tags: str | Sequence[str] | None,
        task_filter: Mapping[str, Any] | None,
    ) -> list[dict[str, Any]]:
        where = _filter(task_filter)
        if ids is not None:
            return list(door.ask("find", ids=list(ids), where=where))
        if project is not None and not isinstance(project, str):
            where, project = {**where, "project": list(project)}, None
        named = [tags] if isinstance(tags, str) else list(tags or ())
        asked = {"project": project, "pattern": pattern, "tags": named, "where": where}
        return list(door.ask("find", **asked))

    @classmethod
    def clone(
        cls,
        source_task: Tasks | str | None = None,
        name: str | None = None,
        comment: str | None = None,
        parent: str | None = None,
        project: str | None = None,
    ) -> Self:
        """A draft with the code, environment and parameters of a task, whatever that one does."""
        source = source_task if source_task is not None else cls.current_task()
        if source is None:
            raise Usage("clone which task?")
        asked = {"name": name, "comment": comment, "parent": parent, "project": project}
        return cls._of(door.ask("clone", task=_id(source), **asked))

    @classmethod
    def create(
        cls,
        project_name: str | None = None,
        task_name: str | None = None,
        *,
        script: str = "",
        module: str | None = None,
        function: Callable[..., Any] | str | None = None,
        function_kwargs: Mapping[str, Any] | None = None,
        function_return: Sequence[str] | str | None = None,
        repo: str | None = None,
        branch: str | None = None,
        commit: str | None = None,
        argparse_args: Sequence[tuple[str, str]] = (),
        packages: Sequence[str] | None = None,
        requirements_file: str | None = None,
        python_version: str | None = None,
        tags: str | Sequence[str] | None = None,
        working_directory: str | None = None,
        docker: str | None = None,
        docker_args: str | Sequence[str] | None = None,
        docker_bash_setup_script: str | Sequence[str] | None = None,
        base_task_id: str | None = None,
    ) -> Self:
        """A draft of a script that nobody has run: nothing runs now.

        Args:
            project_name: a name to group by; the repository's without one.
            task_name: the script's file name without one.
            script: its path here; with `repo` its path in that repository.
            module: run instead of a script as `python -m` does, such as `pkg.train --fast`.
            function: called instead of a script: a function at the top level of a file, or the
                name of one in `script`.
            function_kwargs: its arguments: the section `kwargs` of the task's parameters.
            function_return: names for what it returns, its artifacts; `return_object` without.
            repo: the address of a repository, of which a copy is fetched.
            branch: of that repository; its default one without it.
            commit: of that repository; the last of the branch without it.
            argparse_args: pairs of names and values for the command line.
            packages: requirements, instead of what the project says it needs.
            requirements_file: a file of them.
            python_version: such as 3.12.
            tags: to find it by.
            working_directory: where it starts, below the root of its repository.
            docker: the image that it runs in.
            docker_args: arguments of `docker run`.
            docker_bash_setup_script: what runs in there before it.
            base_task_id: a task to be like, instead of a script.

        Raises Usage for a script that is not there, Refused for files that must not travel.
        """
        job = docker_job(docker, docker_args, docker_bash_setup_script)
        if base_task_id is not None:
            made = cls.clone(base_task_id, name=task_name, project=project_name)
            if job:
                made._ask_for(**job)
            return made
        kwargs = function_kwargs or {}
        said = (script, module, function, argparse_args, function_return, kwargs)
        what = functions.program(*said)
        named = [tags] if isinstance(tags, str) else list(tags or ())
        asked = {"project": project_name, "name": task_name, "tags": named, "job": job}
        origin = {"repository": repo, "branch": branch, "commit": commit, "folder": os.getcwd()}
        needs = {"packages": _requirements(packages, requirements_file), "python": python_version}
        more = {**asked, **what, **origin, **needs, "directory": working_directory}
        return cls._created(more, kwargs)

    @classmethod
    def _created(cls, asked: Mapping[str, Any], kwargs: Mapping[str, Any]) -> Self:
        """A draft; arguments of its function that JSON cannot carry are artifacts of it."""
        plain = functions.as_parameters(kwargs) if functions.plain(kwargs) else {}
        made = cls._of(door.ask("create", **asked, parameters=plain if kwargs else {}))
        if kwargs and not plain:
            keeper: Any = made
            made._store(functions.as_parameters(functions.carried(keeper, KWARGS, kwargs)))
        return made

    @classmethod
    def enqueue(cls, task: Tasks | str, queue_name: str | None = None) -> Self:
        """Queue a draft, or a task that was aborted or failed; without a queue, in its own."""
        return cls._of(door.ask("enqueue", task=_id(task), queue=queue_name))

    @classmethod
    def dequeue(cls, task: Tasks | str) -> Self:
        """Take a waiting task out of its queue: it becomes a draft."""
        return cls._of(door.ask("dequeue", task=_id(task)))


def _filter(said: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task_filter as JSON carries it, with our words for ClearML's statuses."""
    where = dict(said or {})
    statuses = where.get("status")
    if statuses is not None:
        several = [statuses] if isinstance(statuses, str) else statuses
        where["status"] = [status_word(each) for each in several]
    return where


def _requirements(packages: Sequence[str] | None, file: str | None) -> Sequence[str] | None:
    if file is None:
        return packages
    if packages is not None:
        raise Usage("packages, or a file of them: not both")
    with open(file) as lines:
        return lines.read().splitlines()


def _id(task: Tasks | str) -> str:
    return task if isinstance(task, str) else task.id


def status_word(word: str) -> str:
    return _STATUSES.get(word, word)
