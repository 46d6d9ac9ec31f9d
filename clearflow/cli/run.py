"""`clearflow task run` and `create`: a script as it stands here, to be run by an agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from clearflow.cli.output import Pool, ask, pool_name, progress, say

if TYPE_CHECKING:
    from clearflow.tasks.packing import Order, Packed
    from clearflow.words.models import Run


File = Annotated[Path, typer.Argument(help="The Python file.", show_default=False)]
Arguments = Annotated[
    list[str] | None, typer.Argument(help="Its arguments, after `--`.", show_default=False)
]
Project = Annotated[
    str | None, typer.Option(help="A name to group by (default: the repository's).")
]
Name = Annotated[str | None, typer.Option(help="Its name (default: the file's).")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; repeatable.")]
Requirements = Annotated[
    Path | None,
    typer.Option(help="A requirements file (default: what the project says it needs)."),
]
Python = Annotated[str | None, typer.Option(help="A Python version, such as 3.12.")]
Send = Annotated[
    list[str] | None,
    typer.Option(help="Send this new file though it looks like a secret; repeatable."),
]
Image = Annotated[
    str | None, typer.Option(help="A Docker image to run in (default: as the agent does).")
]
DockerArgs = Annotated[
    str | None, typer.Option(help="Arguments of `docker run`, such as '--shm-size 8g'.")
]
Attempts = Annotated[
    int | None, typer.Option(help="How often it is started before its loss is final.", min=1)
]


def run(
    script: File,
    queue: Annotated[str, typer.Option("--queue", "-q", help="Which queue it goes to.")],
    arguments: Arguments = None,
    project: Project = None,
    name: Name = None,
    tag: Tags = None,
    requirements: Requirements = None,
    python: Python = None,
    send: Send = None,
    attempts: Attempts = None,
    image: Image = None,
    docker_args: DockerArgs = None,
    pool: Pool = None,
) -> None:
    """Run a script on another machine, exactly as it stands here.

    All of its repository travels, uncommitted changes included: what its remote has is fetched
    from there, the rest goes through the Prefect server. Files that git ignores stay here.
    """
    order = _order(script, arguments, project, name, tag, requirements, python, send, attempts)
    task = _submit(
        replace(order, queue=queue, variables=_docker(image, docker_args), pool=pool_name(pool))
    )
    say(f"queued {task.name} in {queue!r}: `clearflow task logs -f {task.task_id[:8]}`")
    print(task.task_id)


def create(
    script: File,
    arguments: Arguments = None,
    project: Project = None,
    name: Name = None,
    tag: Tags = None,
    requirements: Requirements = None,
    python: Python = None,
    send: Send = None,
    attempts: Attempts = None,
    image: Image = None,
    docker_args: DockerArgs = None,
    pool: Pool = None,
) -> None:
    """Make a draft of a script, exactly as it stands here; nothing runs yet."""
    order = _order(script, arguments, project, name, tag, requirements, python, send, attempts)
    task = _submit(replace(order, variables=_docker(image, docker_args), pool=pool_name(pool)))
    say(f"made the draft {task.name}: `clearflow task enqueue {task.task_id[:8]} --queue …`")
    print(task.task_id)


def _order(
    script: Path,
    arguments: list[str] | None,
    project: str | None,
    name: str | None,
    tag: list[str] | None,
    requirements: Path | None,
    python: str | None,
    send: list[str] | None,
    attempts: int | None,
) -> Order:
    from clearflow.environment import collect
    from clearflow.tasks.packing import Order

    return Order(
        file=script,
        arguments=arguments or (),
        project=project,
        name=name,
        tags=tag or (),
        needed=collect.of_file(requirements) if requirements else None,
        python_version=python,
        named=send or (),
        max_attempts=attempts,
    )


def _docker(image: str | None, arguments: str | None) -> dict[str, str]:
    """The job variables of a container. One that no agent could read is told at once."""
    from clearflow.words.containers import Options, options

    options(arguments or "", Options(privileged=True))
    return {k: v for k, v in (("image", image), ("docker_args", arguments)) if v}


def _submit(order: Order) -> Run:
    from clearflow.capture.owner import owner
    from clearflow.tasks.packing import pack
    from clearflow.tasks.script import submit

    with TemporaryDirectory(prefix="clearflow-") as place:
        with progress("taking the code as it stands"):
            packed = pack(order, Path(place))
        say(_what(packed))
        with progress("sending") as tell:
            return ask(lambda api: submit(api, packed, by=owner(), progress=tell))


def _what(packed: Packed) -> str:
    """What travels, in a line."""
    whole = packed.snapshot.parts[0]
    size = packed.snapshot.size
    sent = f"{size / 1e6:.1f} MB to send" if size >= 1e5 else f"{size / 1e3:.1f} kB to send"
    origin = f", the rest from {whole.remote}" if whole.remote else ""
    needs = packed.needed
    environment = (
        f"packages by {needs.source}" if needs.source else "packages: those of the agent's own"
    )
    return f"code at {whole.commit[:12]}: {sent}{origin}; {environment}"
