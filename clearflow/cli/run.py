"""`clearflow task run`: a script as it stands here, run by an agent."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from clearflow.cli.output import Pool, ask, pool_name, progress, say

if TYPE_CHECKING:
    from clearflow.tasks.script import Packed


def run(
    script: Annotated[Path, typer.Argument(help="The Python file.", show_default=False)],
    queue: Annotated[str, typer.Option("--queue", "-q", help="Which queue it goes to.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Its arguments, after `--`.", show_default=False)
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="A name to group by (default: the repository's).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name (default: the file's).")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeatable.")] = None,
    requirements: Annotated[
        Path | None,
        typer.Option(help="A requirements file (default: what the project says it needs)."),
    ] = None,
    python: Annotated[str | None, typer.Option(help="A Python version, such as 3.12.")] = None,
    send: Annotated[
        list[str] | None,
        typer.Option(help="Send this new file though it looks like a secret; repeatable."),
    ] = None,
    attempts: Annotated[
        int | None, typer.Option(help="How often it is started before its loss is final.", min=1)
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="A Docker image to run in (default: as the agent does).")
    ] = None,
    docker_args: Annotated[
        str | None, typer.Option(help="Arguments of `docker run`, such as '--shm-size 8g'.")
    ] = None,
    pool: Pool = None,
) -> None:
    """Run a script on another machine, exactly as it stands here.

    All of its repository travels, uncommitted changes included: what its remote has is fetched
    from there, the rest goes through the Prefect server. Files that git ignores stay here.
    """
    from clearflow.capture.owner import owner
    from clearflow.environment import collect
    from clearflow.tasks.script import Order, pack, submit
    from clearflow.words.containers import Options, options

    # One that no agent could read is told before anything is queued.
    options(docker_args or "", Options(privileged=True))

    order = Order(
        file=script,
        queue=queue,
        arguments=arguments or (),
        project=project,
        name=name,
        tags=tag or (),
        needed=collect.of_file(requirements) if requirements else None,
        python_version=python,
        named=send or (),
        max_attempts=attempts,
        pool=pool_name(pool),
        variables={k: v for k, v in (("image", image), ("docker_args", docker_args)) if v},
    )
    with TemporaryDirectory(prefix="clearflow-") as place:
        with progress("taking the code as it stands"):
            packed = pack(order, Path(place))
        say(_what(packed))
        with progress("sending") as tell:
            task = ask(lambda api: submit(api, packed, by=owner(), progress=tell))
    say(f"queued {task.name} in {queue!r}: `clearflow task logs -f {task.task_id[:8]}`")
    print(task.task_id)


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
