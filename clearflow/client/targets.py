"""What schedulers and triggers launch: a task, or a function that becomes the draft of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clearflow.client import functions
from clearflow.client.tasks import Tasks
from clearflow.errors import Usage
from clearflow.words.parameters import KWARGS

if TYPE_CHECKING:
    TaskLike = Tasks | str


def target(
    task: TaskLike | None,
    function: Callable[..., Any] | None,
    project: str,
    fills: str | None = None,
) -> tuple[str | None, dict[str, str]]:
    """The id of a task, and parameters of it.

    A function is made a draft of this project, with its file as it stands now. Its first argument,
    where it has one, gets what `fills` says.

    Raises Usage for a task beside a function, and for a function that no other program finds or
    that needs arguments.
    """
    if function is None:
        return (task.id if isinstance(task, Tasks) else task), {}
    if task is not None:
        raise Usage("launch a task or a function, and not both")
    first = functions.first_argument(function) if fills is not None else None
    given = {first: ""} if first is not None else {}
    made = Tasks.create(project, function.__name__, function=function, function_kwargs=given)
    return made.id, {f"{KWARGS}/{first}": str(fills)} if first is not None else {}
