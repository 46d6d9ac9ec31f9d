"""Finding tasks, making new ones, and putting them into queues."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clearflow.client import door
from clearflow.client.needs import Needs, docker_job
from clearflow.errors import NotFound, Usage

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
    ) -> Self:
        """A task by its id, or the latest that fits. `task_name` is the whole name.

        `tags` are any of them; `__$all`, `__$any`, `__$not` and a minus sign as in ClearML.
        Raises NotFound when there is none.
        """
        if task_id is not None:
            return cls._of(door.ask("describe", task=task_id))
        named = [tags] if isinstance(tags, str) else list(tags or ())
        found = door.ask("find", project=project_name, name=task_name, tags=named, limit=1)
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

        `task_filter` may have `status` (a list of words) and `user`.
        """
        more = dict(task_filter or {})
        asked: dict[str, Any] = {"ids": None if task_ids is None else list(task_ids)}
        if task_ids is None:
            statuses = [status_word(s) for s in more.pop("status", None) or ()]
            asked.update(project=project_name, pattern=task_name, statuses=statuses)
            asked["tags"] = [tags] if isinstance(tags, str) else list(tags or ())
            asked["user"] = more.pop("user", None)
        if more:
            raise Usage(f"task_filter knows status and user, and not {', '.join(sorted(more))}")
        return [cls._of(seen) for seen in door.ask("find", **asked)]

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
        if not script:
            raise Usage("create a task of which script?", hint='script="train.py"')
        if packages is not None and requirements_file is not None:
            raise Usage("packages, or a file of them: not both")
        if requirements_file is not None:
            with open(requirements_file) as file:
                packages = file.read().splitlines()
        words = [word for name, value in argparse_args for word in (f"--{name}", str(value))]
        named = [tags] if isinstance(tags, str) else list(tags or ())
        asked = {"project": project_name, "name": task_name, "script": str(script), "tags": named}
        origin = {"repository": repo, "branch": branch, "commit": commit}
        needs = {"packages": packages, "python": python_version, "arguments": words}
        needs |= {"directory": working_directory, "job": job}  # type: ignore[dict-item]
        here = os.getcwd()
        return cls._of(door.ask("create", **asked, **origin, **needs, folder=here))

    @classmethod
    def enqueue(cls, task: Tasks | str, queue_name: str | None = None) -> Self:
        """Queue a draft, or a task that was aborted or failed; without a queue, in its own."""
        return cls._of(door.ask("enqueue", task=_id(task), queue=queue_name))

    @classmethod
    def dequeue(cls, task: Tasks | str) -> Self:
        """Take a waiting task out of its queue: it becomes a draft."""
        return cls._of(door.ask("dequeue", task=_id(task)))


def _id(task: Tasks | str) -> str:
    return task if isinstance(task, str) else task.id


def status_word(word: str) -> str:
    return _STATUSES.get(word, word)
