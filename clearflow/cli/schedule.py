"""`clearflow schedule`: tasks that are launched by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearflow.cli import parts
from clearflow.cli.output import Json, print_json, print_table, say
from clearflow.cli.service import asked
from clearflow.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping


app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Schedules: tasks launched by the clock."
)

_complete = parts.complete("schedule")
Name = Annotated[str, typer.Argument(help="A schedule by its name.", autocompletion=_complete)]
Scheduler = Annotated[str | None, typer.Option(help="The scheduler that it belongs to.")]
Project = Annotated[str | None, typer.Option(help="The project of that scheduler.")]


@app.command()
def ls(scheduler: Scheduler = None, project: Project = None, json: Json = False) -> None:
    """What is scheduled, and when it runs next, here and in the schedule's own time zone."""
    found = asked("schedule.list", scheduler=scheduler, project=project)
    if json:
        print_json(found)
        return
    print_table(
        [
            "NAME~",
            "PROJECT~",
            "SCHEDULER~",
            "WHEN~",
            "ZONE~",
            "NEXT HERE",
            "NEXT THERE",
            "RUNS~",
            "",
        ],
        [
            [
                r["name"],
                r["project"],
                r["scheduler"],
                r["when"],
                _here(r),
                _there(r),
                r["what"],
                "" if r["active"] else "paused",
            ]
            for r in found
        ],
        empty="nothing is scheduled: `clearflow schedule add`",
    )


def _here(row: Mapping[str, Any]) -> str:
    from datetime import datetime

    if not row["next"]:
        return ""
    return f"{datetime.fromisoformat(row['next'][0]).astimezone():%a %m-%d %H:%M}"


def _there(row: Mapping[str, Any]) -> str:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    if not row["next"]:
        return ""
    moment = datetime.fromisoformat(row["next"][0])
    return f"{moment.astimezone(ZoneInfo(row['timezone'])):%a %m-%d %H:%M %Z}"


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Its name.")],
    task: Annotated[str | None, typer.Option(help="The task to launch, by its id.")] = None,
    latest: Annotated[
        list[str] | None,
        typer.Option(help="Or the latest that fits: project=…, name=…, tags=…; repeatable."),
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Or a deployment: its id, or flow/name.")] = None,
    cron: Annotated[str | None, typer.Option(help="When, such as '30 8 * * 1-5'.")] = None,
    every: Annotated[
        list[str] | None,
        typer.Option(help="Or ClearML's words: day=1, hour=8, weekdays=friday…; repeatable."),
    ] = None,
    timezone: Annotated[str, typer.Option(help="In which this is meant.")] = "UTC",
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Of the task.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="NAME=VALUE, such as Args/day='${schedule.date}'."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Only the next time.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Also at once.")] = False,
    single: Annotated[bool, typer.Option("--single", help="Not while one has not ended.")] = False,
    reuse: Annotated[bool, typer.Option("--reuse", help="The task itself, and no copy.")] = False,
    direct: Annotated[bool, typer.Option("--direct", help="Prefect queues it by itself.")] = False,
    limit: Annotated[float | None, typer.Option(help="Hours after which it is aborted.")] = None,
    missed: Annotated[str, typer.Option(help="Missed fires: all, once or skip.")] = "all",
    target_project: Annotated[str | None, typer.Option(help="Of the launched task.")] = None,
    scheduler: Annotated[str, typer.Option(help="The scheduler that it belongs to.")] = "scheduler",
    project: Annotated[str, typer.Option(help="The project of that scheduler.")] = "Schedules",
    json: Json = False,
) -> None:
    """Launch a task by the clock; one of the same name is replaced."""
    from clearflow.cli.app import parsed

    launch = {
        "task": task,
        "choice": choice(latest or []),
        "deployment": flow,
        "queue": queue,
        "parameters": parsed(parameter or []),
        "target_project": target_project,
        "single_instance": single,
        "reuse": reuse,
        "time_limit_hours": limit,
    }
    job = {
        "name": name,
        "launch": {k: v for k, v in launch.items() if v not in (None, {}, False)},
        "cron": cron,
        **_when(every or []),
        "timezone": timezone,
        "recurring": not once,
        "execute_immediately": now,
        "missed": missed,
        "direct": direct,
    }
    _add(job, {"scheduler": scheduler, "project": project}, json)


def choice(pairs: list[str]) -> dict[str, Any] | None:
    """What `--latest` says: the tags are a list."""
    from clearflow.cli.app import parsed

    said = parsed(pairs)
    return ({**said, "tags": _list(said["tags"])} if "tags" in said else said) or None


def _when(pairs: list[str]) -> dict[str, Any]:
    from clearflow.cli.app import parsed

    said = parsed(pairs)
    known = ("minute", "hour", "day", "weekdays", "month", "year")
    if unknown := [word for word in said if word not in known]:
        raise Usage(f"--every {unknown[0]}: nobody knows that", hint=", ".join(known))
    return {**said, "weekdays": _list(said["weekdays"])} if "weekdays" in said else said


def _add(job: dict[str, Any], where: dict[str, str], json: bool) -> None:
    name = job["name"]
    done = asked("schedule.put", jobs=[job], **where)
    found = [each for each in asked("schedule.list", **where) if each["name"] == name]
    if json:
        print_json(found[0] if found else done[0])
    elif not found:
        say(f"{name!r}: launched at once, and never again")
    else:
        row = found[0]
        following = f"next {_there(row)}, here {_here(row)}" if row["next"] else "no next time"
        say(f"{done[0]['done']} {name!r}: {row['when']} ({row['timezone']}); {following}")


def _list(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(each) for each in value]
    return [word.strip() for word in str(value).split(",")]


@app.command("run-now")
def run_now(
    name: Name, scheduler: Scheduler = None, project: Project = None, json: Json = False
) -> None:
    """Launch it at once, beside its times."""
    done = asked("schedule.now", job=name, scheduler=scheduler, project=project)
    if json:
        print_json(done)
    say(f"{name!r} is launched by {done['url']}")


parts.register(app, "schedule", "job", "scheduler", "is due")
