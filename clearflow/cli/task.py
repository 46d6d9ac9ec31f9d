"""`clearflow task`: see, follow, abort and queue tasks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clearflow.cli import change, run, views
from clearflow.cli.output import (
    Json,
    Pool,
    Yes,
    ask,
    confirm,
    pool_name,
    print_json,
    print_table,
    progress,
    say,
    short,
)

if TYPE_CHECKING:
    from datetime import datetime

    from clearflow._prefect.http import Api
    from clearflow._prefect.logs import Line
    from clearflow.tasks.find import Search
    from clearflow.tasks.show import Shown
    from clearflow.words.models import Run

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Tasks: see, follow, abort and queue them."
)

app.command()(run.run)
app.command()(run.create)
app.command()(change.clone)
app.command("set")(change.set_)

Id = Annotated[str, typer.Argument(help="The id of a task, or its first characters.")]
Ids = Annotated[list[str], typer.Argument(help="Ids of tasks, or their first characters.")]
Project = Annotated[str | None, typer.Option(help="Only of this project.")]
Name = Annotated[str | None, typer.Option(help="Only with this in the name.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Only with this tag; repeatable.")]
User = Annotated[str | None, typer.Option(help="Only queued by this user.")]
Status = Annotated[
    list[str] | None, typer.Option(help="Only with this status; repeatable, or with commas.")
]
Queue = Annotated[str | None, typer.Option(help="Only of this queue.")]


def _search(
    project: str | None,
    name: str | None,
    tag: list[str] | None,
    user: str | None,
    status: list[str] | None,
    queue: str | None,
    pool: str | None,
) -> Search:
    from clearflow.tasks.find import Search

    words = [w for part in status or () for w in part.split(",") if w]
    return Search(project, name, tag or (), user, words, queue, pool)


@app.command("ls")
def list_(
    project: Project = None,
    name: Name = None,
    tag: Tags = None,
    user: User = None,
    status: Status = None,
    queue: Queue = None,
    pool: Annotated[str | None, typer.Option(help="Only of this work pool.")] = None,
    limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 50,
    json: Json = False,
) -> None:
    """List tasks, newest first."""
    from clearflow.tasks import find

    search = _search(project, name, tag, user, status, queue, pool)

    async def look(api: Api) -> tuple[list[Run], datetime]:
        wanted = limit + 1 if limit else None
        return [r async for r in find.find(api, search, wanted)], api.clock.now()

    found, now = ask(look)
    more = bool(limit) and len(found) > limit
    found = found[:limit] if limit else found
    if json:
        print_json([views.record(r, now) for r in found])
        return
    print_table(
        ["TASK", "NAME~", "PROJECT~", "STATUS", "QUEUE~", "OWNER~", "AGENT~", "QUEUED"],
        [
            [
                short(r.task_id),
                r.name,
                r.project,
                r.status(now),
                r.queue_shown,
                r.owner,
                r.note.agent,
                views.queued(r, now),
            ]
            for r in found
        ],
        empty="no task fits",
    )
    if more:
        say(f"… and more: these are the newest {limit}; --limit 0 lists all")


@app.command()
def show(task: Id, json: Json = False) -> None:
    """Show a task: its state, its place in the line and why it waits, its history, its links."""
    from clearflow import agents
    from clearflow.tasks import find
    from clearflow.tasks import show as showing

    async def look(api: Api) -> tuple[Shown, datetime]:
        run = await find.one(api, task)
        serving = [v.serving for v in await agents.find(api, run.pool)] if run.pool else []
        return await showing.show(api, run, serving), api.clock.now()

    shown, now = ask(look)
    if json:
        print_json(views.whole(shown, now))
        return
    print_table(["TASK", shown.run.task_id], views.facts(shown, now))
    say("")
    print_table(
        ["WHEN", "STATE", "WHAT~"],
        [[f"{s.at:%F %T}" if s.at else "", s.state, s.words] for s in shown.history],
    )
    if shown.scalars:
        say("")
        names = ["SCALAR~", "SERIES~", "LAST", "MIN", "MAX", "ITERATION"]
        print_table(names, views.scalars(shown))
    if shown.artifacts:
        say("")
        print_table(["ARTIFACT~", "TYPE", "BYTES", "PREVIEW~"], views.artifacts(shown))


@app.command()
def logs(
    task: Id,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")
    ] = False,
    last: Annotated[int | None, typer.Option("--last", "-n", help="Only so many.", min=1)] = None,
    times: Annotated[bool, typer.Option("--times", help="With the time of each line.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object per line.")] = False,
) -> None:
    """Print the console of a task."""
    from json import dumps

    from clearflow.tasks import find
    from clearflow.tasks import logs as console

    def shown(line: Line) -> str:
        if json:
            record = {"at": line.at.isoformat(), "logger": line.logger, "message": line.message}
            return dumps(record, ensure_ascii=False)
        return f"{line.at:%F %T}  {line.message}" if times else line.message

    async def look(api: Api) -> None:
        run = await find.one(api, task)
        lines = console.follow(api, run, last) if follow else console.read(api, run, last)
        async for line in lines:
            print(shown(line), flush=follow)

    ask(look)


@app.command()
def wait(
    tasks: Ids,
    timeout: Annotated[
        float | None, typer.Option(help="Give up after so many seconds.", min=0)
    ] = None,
) -> None:
    """Wait until tasks have ended. Fails (1) unless all of them have completed."""
    from clearflow.errors import ClearflowError
    from clearflow.tasks import find
    from clearflow.tasks import wait as waiting

    async def act(api: Api) -> list[str]:
        found = await find.several(api, tasks)
        done = 0

        def ended(run: Run) -> None:
            nonlocal done
            done += 1
            tell(done, len(found))
            print(f"{run.task_id}  {run.status(api.clock.now())}  {run.name}", flush=True)

        tell(0, len(found))
        runs = await waiting.wait(api, found, timeout=timeout, ended=ended)
        return [run.status(api.clock.now()) for run in runs]

    try:
        with progress("waiting") as tell:
            ends = ask(act)
    except TimeoutError:
        raise ClearflowError(f"not all of them have ended after {timeout:g} s") from None
    if any(end != "completed" for end in ends):
        sys.exit(1)


@app.command()
def abort(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Ids of tasks, or their first characters.")
    ] = None,
    project: Project = None,
    name: Name = None,
    tag: Tags = None,
    user: User = None,
    status: Status = None,
    queue: Queue = None,
    pool: Pool = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until they have ended.")] = False,
    yes: Yes = False,
) -> None:
    """Abort tasks: by ids, or all that wait or run and fit the options."""
    from clearflow.capture.owner import owner
    from clearflow.errors import Usage
    from clearflow.tasks import abort as aborting
    from clearflow.tasks import find
    from clearflow.tasks import wait as waiting

    chosen = any((project, name, tag, user, status, queue))
    if bool(tasks) == chosen:
        raise Usage("name tasks, or say which ones by options", hint="`clearflow task ls` has ids")
    search = _search(project, name, tag, user, status or _LIVE, queue, pool_name(pool))

    async def look(api: Api) -> list[Run]:
        if tasks:
            return await find.several(api, tasks)
        return [r async for r in find.find(api, search)]

    found = ask(look)
    if not found:
        say("no task fits")
        return
    if not tasks:
        confirm(f"Abort {_count(found)}?", yes)
    with progress("aborting") as tell:
        runs = ask(lambda api: aborting.abort(api, found, by=owner(), progress=tell))
    if wait:
        with progress("waiting for their end"):
            ask(lambda api: waiting.wait(api, runs))
        say(f"aborted {_count(runs)}")
        return
    now_ended = [r for r in runs if r.state is not None and r.state.final]
    if len(now_ended) < len(runs):
        say(f"{_count(runs[len(now_ended) :])} told to stop; --wait waits for the end")
    if now_ended:
        say(f"aborted {_count(now_ended)}")


_LIVE = ["queued", "starting", "running", "retrying"]


@app.command()
def dequeue(tasks: Ids) -> None:
    """Take waiting tasks out of their queue. They become drafts and can be queued again."""
    from clearflow.capture.owner import owner
    from clearflow.queues import drafts
    from clearflow.tasks import find

    async def act(api: Api) -> list[Run]:
        return await drafts.dequeue(api, await find.several(api, tasks), by=owner(), progress=tell)

    with progress("taking out") as tell:
        done = ask(act)
    say(f"took {_count(done)} out of the line; `clearflow task enqueue` puts them back")


@app.command()
def enqueue(
    tasks: Ids,
    queue: Annotated[
        str | None, typer.Option(help="The queue (default: where each one was).")
    ] = None,
) -> None:
    """Queue drafts again, and tasks that were aborted or failed, at the back of the line."""
    from clearflow._prefect import pools
    from clearflow.capture.owner import owner
    from clearflow.queues import drafts
    from clearflow.tasks import find

    async def act(api: Api) -> list[Run]:
        found = await find.several(api, tasks)
        pool = found[0].pool or pool_name(None)
        target = await pools.queue(api, pool, queue) if queue is not None else None
        return await drafts.enqueue(api, found, queue=target, by=owner(), progress=tell)

    with progress("queueing") as tell:
        done = ask(act)
    say(f"queued {_count(done)}" + (f" in {queue!r}" if queue else ""))


def _count(runs: list[Run]) -> str:
    return "1 task" if len(runs) == 1 else f"{len(runs)} tasks"
