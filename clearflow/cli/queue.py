"""`clearflow queue`: see, make and change queues, and the order of what waits in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearflow.cli.output import (
    Json,
    Pool,
    Yes,
    ago,
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
    from clearflow.queues.line import Where
    from clearflow.queues.records import Overview, Shown
    from clearflow.words.models import Run

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Queues, and the order of what waits in them."
)


def _complete(incomplete: str) -> list[str]:
    """Names of queues, for the shell."""
    from clearflow._prefect import pools, seam
    from clearflow.errors import ClearflowError

    try:
        found = seam.run(lambda api: pools.queues(api, pool_name(None)))
    except ClearflowError:
        return []
    return [q.name for q in found if q.name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="The name of a queue.", autocompletion=_complete)]
Tasks = Annotated[list[str], typer.Argument(help="Ids of tasks, or their first characters.")]


@app.command("ls")
def list_(pool: Pool = None, json: Json = False) -> None:
    """List queues: how many wait and run, and who serves them."""
    from clearflow import agents
    from clearflow.queues import records

    async def look(api: Api) -> tuple[list[Overview], list[agents.AgentView], datetime]:
        found = await records.overview(api, pool_name(pool))
        return found, await agents.find(api, pool_name(pool)), api.clock.now()

    found, views, now = ask(look)
    rows: list[dict[str, Any]] = []
    for each in found:
        serving = [v for v in views if each.queue.name in v.record.queues and v.online]
        rows.append(
            {
                "queue": each.queue.name,
                "waiting": each.waiting,
                "running": each.active,
                "later": each.later,
                "limit": each.queue.limit,
                "paused": each.queue.paused,
                "next": each.head.name if each.head else None,
                "next_task_id": each.head.task_id if each.head else None,
                "longest_wait_seconds": _waited(each.head, now),
                "agents": [v.record.name for v in serving],
            }
        )
    if json:
        print_json(rows)
        return
    print_table(
        ["QUEUE", "WAITING", "RUNNING", "LATER", "LIMIT", "AGENTS", "NEXT~", ""],
        [
            [
                r["queue"],
                r["waiting"],
                r["running"],
                r["later"] or "",
                r["limit"],
                len(r["agents"]),
                r["next"],
                "paused" if r["paused"] else "",
            ]
            for r in rows
        ],
        empty="there is no queue yet: `clearflow queue create NAME`",
    )


def _waited(head: Run | None, now: datetime) -> float | None:
    from clearflow.words import lifecycle

    since = lifecycle.since(head) if head else None
    return round((now - since).total_seconds(), 1) if since else None


@app.command()
def show(
    name: Name,
    pool: Pool = None,
    limit: Annotated[int, typer.Option(help="How many of the line to show.", min=1)] = 100,
    json: Json = False,
) -> None:
    """Show a queue: the line, why each task waits, and what runs."""
    from clearflow import agents
    from clearflow.queues import records

    async def look(api: Api) -> tuple[Shown, datetime]:
        serving = [v.serving for v in await agents.find(api, pool_name(pool))]
        found = await records.show(api, pool_name(pool), name, serving, limit=limit)
        return found, api.clock.now()

    shown, now = ask(look)
    if json:
        print_json(_as_json(shown))
        return
    queue, serving = shown.queue, shown.situation.serving
    facts = [
        f"{shown.waiting} waiting",
        f"{len(shown.active)} running" + (f" of at most {queue.limit}" if queue.limit else ""),
        "agents: " + (", ".join(a.name for a in serving) or "none"),
    ]
    say(f"{queue.name}{' (paused)' if queue.paused else ''}: {' · '.join(facts)}")
    rows = [
        [
            w.number,
            short(w.run.task_id),
            w.run.name,
            w.run.owner,
            ago(w.since, now),
            w.why,
        ]
        for w in shown.line
    ]
    rows += [
        ["▶", short(r.task_id), r.name, r.owner, "", f"runs on {r.note.agent}"]
        for r in shown.active
    ]
    rows += [
        ["–", short(r.task_id), r.name, r.owner, "", f"due {r.place:%F %T}"] for r in shown.later
    ]
    print_table(["#", "TASK", "NAME~", "OWNER~", "WAITED", "WHY~"], rows, empty="nobody waits")
    if shown.waiting > len(shown.line):
        say(f"… and {shown.waiting - len(shown.line)} more: --limit shows them")


def _as_json(shown: Shown) -> dict[str, Any]:
    queue = shown.queue
    return {
        "queue": queue.name,
        "pool": queue.pool,
        "paused": queue.paused,
        "limit": queue.limit,
        "agents": [a.name for a in shown.situation.serving],
        "waiting": shown.waiting,
        "line": [
            {
                "number": w.number,
                "task_id": w.run.task_id,
                "run_id": w.run.id,
                "name": w.run.name,
                "owner": w.run.owner,
                "since": w.since,
                "why": w.why,
            }
            for w in shown.line
        ],
        "running": [
            {"task_id": r.task_id, "run_id": r.id, "name": r.name, "agent": r.note.agent}
            for r in shown.active
        ],
        "later": [
            {"task_id": r.task_id, "run_id": r.id, "name": r.name, "due": r.place}
            for r in shown.later
        ],
    }


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Any name.")],
    limit: Annotated[int | None, typer.Option(help="How many tasks may run at once.")] = None,
    description: Annotated[str, typer.Option(help="A sentence for others.")] = "",
    pool: Pool = None,
) -> None:
    """Make a queue."""
    from clearflow.queues import records

    ask(
        lambda api: records.create(api, pool_name(pool), name, limit=limit, description=description)
    )
    say(f"made the queue {name!r}; `clearflow agent start --queue {name!r}` serves it")


@app.command()
def delete(
    name: Name,
    move_to: Annotated[
        str | None,
        typer.Option(help="The queue its tasks go to.", autocompletion=_complete),
    ] = None,
    pool: Pool = None,
) -> None:
    """Delete a queue. Refuses while tasks wait in it, unless they go to another."""
    from clearflow.capture.owner import owner
    from clearflow.queues import records

    with progress(f"moving to {move_to}") as tell:
        moved = ask(
            lambda api: records.delete(
                api, pool_name(pool), name, move_to=move_to, by=owner(), progress=tell
            )
        )
    say(f"deleted the queue {name!r}" + (f"; {moved} tasks went to {move_to!r}" if moved else ""))


@app.command()
def move(
    tasks: Tasks,
    front: Annotated[bool, typer.Option("--front", help="To the front.")] = False,
    back: Annotated[bool, typer.Option("--back", help="To the back.")] = False,
    up: Annotated[bool, typer.Option("--up", help="One place to the front.")] = False,
    down: Annotated[bool, typer.Option("--down", help="One place to the back.")] = False,
    before: Annotated[str | None, typer.Option(help="Directly before this task.")] = None,
    after: Annotated[str | None, typer.Option(help="Directly after this task.")] = None,
    to: Annotated[
        str | None, typer.Option(help="To another queue.", autocompletion=_complete)
    ] = None,
    pool: Pool = None,
) -> None:
    """Move waiting tasks within their queue or to another. They keep the order they have."""
    from clearflow.capture.owner import owner
    from clearflow.queues import moves
    from clearflow.tasks import find

    async def act(api: Api) -> list[Run]:
        where = await _where(
            api, {"front": front, "back": back, "up": up, "down": down}, before, after, to
        )
        found = await find.several(api, tasks)
        name = to or (where.anchor or found[0]).queue_shown or ""
        queue = await moves.home(api, found, found[0].pool or pool_name(pool), name)
        return await moves.move(api, found, where, queue=queue, by=owner(), progress=tell)

    with progress("moving") as tell:
        moved = ask(act)
    say(f"moved {_count(len(moved))}")


async def _where(
    api: Api, flags: dict[str, bool], before: str | None, after: str | None, to: str | None
) -> Where:
    from clearflow.errors import Usage
    from clearflow.queues.line import Spot, Where
    from clearflow.tasks import find

    chosen = [Spot(name) for name, given in flags.items() if given]
    chosen += [Spot.BEFORE] * (before is not None) + [Spot.AFTER] * (after is not None)
    if not chosen and to is not None:
        chosen = [Spot.BACK]
    if len(chosen) != 1:
        raise Usage(
            "say where to, once" if not chosen else "say one place, not several",
            hint="--front, --back, --up, --down, --before TASK, --after TASK, --to QUEUE",
        )
    anchor = before or after
    return Where(chosen[0], await find.one(api, anchor) if anchor else None)


@app.command()
def clear(name: Name, yes: Yes = False, pool: Pool = None) -> None:
    """Take every waiting task out of a queue. They become drafts and can be queued again."""
    from clearflow._prefect import pools
    from clearflow.capture.owner import owner
    from clearflow.queues import drafts

    queue = ask(lambda api: pools.queue(api, pool_name(pool), name))
    confirm(f"Take all waiting tasks out of the queue {name!r}?", yes)
    with progress(f"clearing {name}") as tell:
        count = ask(lambda api: drafts.clear(api, queue, by=owner(), progress=tell))
    say(f"took {_count(count)} out of {name!r}; `clearflow task enqueue` puts them back")


@app.command()
def pause(name: Name, pool: Pool = None) -> None:
    """Start nothing more of a queue; what runs, runs on."""
    from clearflow.queues import records

    ask(lambda api: records.pause(api, pool_name(pool), name))
    say(f"paused {name!r}")


@app.command()
def resume(name: Name, pool: Pool = None) -> None:
    """Start tasks of a paused queue again."""
    from clearflow.queues import records

    ask(lambda api: records.pause(api, pool_name(pool), name, paused=False))
    say(f"resumed {name!r}")


@app.command()
def limit(
    name: Name,
    tasks: Annotated[str, typer.Argument(help="How many may run at once; none for no limit.")],
    pool: Pool = None,
) -> None:
    """Limit how many tasks of a queue run at once."""
    from clearflow.errors import Usage
    from clearflow.queues import records

    if tasks != "none" and not tasks.isdigit():
        raise Usage(f"{tasks!r} is not a number", hint="a number, or none for no limit")
    count = None if tasks == "none" else int(tasks)
    ask(lambda api: records.limit(api, pool_name(pool), name, count))
    say(f"{name!r}: " + ("no limit" if count is None else f"at most {count} at once"))


def _count(number: int) -> str:
    return "1 task" if number == 1 else f"{number} tasks"
