"""`clearflow search`: parameters that are searched by trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from clearflow.cli.output import Json, print_json, print_table, say, short
from clearflow.cli.service import asked, completes
from clearflow.errors import Usage

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Searches: parameters, tried out by copies of a task.",
)

_complete = completes("search.list", lambda each: str(each["id"]))
Search = Annotated[str, typer.Argument(help="A search by its id.", autocompletion=_complete)]


@app.command()
def run(
    task: Annotated[
        str | None, typer.Argument(help="The task whose copies are the trials, by its id.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="A YAML file with settings; what flags say goes first."),
    ] = None,
    uniform: Annotated[
        list[str] | None, typer.Option(help="NAME=LOW:HIGH[:STEP], any number; repeatable.")
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option(help="NAME=LOW:HIGH, exponents of ten; repeatable.")
    ] = None,
    integer: Annotated[
        list[str] | None, typer.Option(help="NAME=LOW:HIGH[:STEP], whole numbers; repeatable.")
    ] = None,
    choice: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE,VALUE…, one of them; repeatable.")
    ] = None,
    minimize: Annotated[
        list[str] | None, typer.Option(help="A scalar, as title/series; repeatable.")
    ] = None,
    maximize: Annotated[list[str] | None, typer.Option(help="Likewise; repeatable.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="optuna, grid or random.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", "-n", help="So many at most.")] = None,
    at_once: Annotated[int | None, typer.Option(help="So many at a time.")] = None,
    minutes: Annotated[float | None, typer.Option(help="How long all of it may take.")] = None,
    pruner: Annotated[
        str | None, typer.Option(help="One of Optuna's, such as MedianPruner: stops trials.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Of the trials.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Any other setting, as NAME=VALUE; repeatable."),
    ] = None,
    controller: Annotated[str, typer.Option(help="The queue of the search itself.")] = "services",
    name: Annotated[str, typer.Option(help="Its name.")] = "search",
    project: Annotated[str, typer.Option(help="Its project.")] = "Searches",
    json: Json = False,
) -> None:
    """Search parameters; `clearflow app show search` lists all settings."""
    from clearflow.cli.app import parsed

    ranges = [
        *_ranges("uniform", uniform),
        *_ranges("log_uniform", log),
        *_ranges("integer", integer),
        *_choices(choice),
    ]
    objectives = [*_objectives("min", minimize), *_objectives("max", maximize)]
    said = {
        "base_task_id": task,
        "hyper_parameters": ranges,
        "objectives": objectives,
        "optimizer": optimizer,
        "total_max_jobs": trials,
        "max_number_of_concurrent_tasks": at_once,
        "optimization_time_limit": minutes,
        "pruner": pruner,
        "execution_queue": queue,
    }
    settings = _file(file) | {k: v for k, v in said.items() if v not in (None, [])}
    settings |= parsed(setting or [])
    for doubt in asked("search.check", settings=settings):
        say(doubt)
    made = asked("search.start", settings=settings, name=name, project=project, queue=controller)
    if json:
        print_json(made)
    say(f"search {made['id']} waits in {controller}: {made['url']}")


def _file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    import yaml

    try:
        said = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Usage(f"{file}: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict):
        raise Usage(f"{file} has no settings of a search", hint="base_task_id: …")
    return said


def _pair(text: str, example: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not equals or not name or not rest:
        raise Usage(f"{text!r} is no range", hint=f"such as {example}")
    return name, rest


def _ranges(kind: str, said: Sequence[str] | None) -> list[dict[str, Any]]:
    found = []
    for text in said or ():
        name, rest = _pair(text, "General/lr=0.1:0.5")
        words = ("min_value", "max_value", "step_size")
        try:
            numbers = [int(n) if kind == "integer" else float(n) for n in rest.split(":")]
        except ValueError:
            numbers = []
        if len(numbers) not in (2, 3):
            raise Usage(f"{text!r} is no range", hint="such as General/lr=0.1:0.5")
        found.append({"kind": kind, "name": name, **dict(zip(words, numbers, strict=False))})
    return found


def _choices(said: Sequence[str] | None) -> list[dict[str, Any]]:
    from clearflow.cli.app import parsed

    found = []
    for text in said or ():
        name, rest = _pair(text, "General/optimizer=adam,sgd")
        values = [parsed([f"value={each}"])["value"] for each in rest.split(",")]
        found.append({"kind": "discrete", "name": name, "values": values})
    return found


def _objectives(sign: str, said: Sequence[str] | None) -> list[dict[str, str]]:
    found = []
    for text in said or ():
        title, _, series = text.partition("/")
        found.append({"title": title, "series": series, "sign": sign})
    return found


@app.command()
def ls(
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="So many of them.")] = 20,
    json: Json = False,
) -> None:
    """The searches, the latest first."""
    found = asked("search.list", limit=last)
    if json:
        print_json(found)
        return
    columns = ["ID", "NAME~", "PROJECT~", "STATUS", "TRIALS", "BEST~"]
    rows = [
        [
            short(r["id"]),
            r["name"],
            r["project"],
            r["status"],
            f"{r['ended']}/{r['trials']}",
            _words(r["best"]["metrics"]) if r["best"] else "",
        ]
        for r in found
    ]
    print_table(columns, rows, empty="nothing is searched: `clearflow search run`")


@app.command()
def show(
    search: Search,
    top: Annotated[int | None, typer.Option("--top", "-n", min=1, help="So many trials.")] = None,
    json: Json = False,
) -> None:
    """The trials of a search: the best first, then those without a value."""
    found = asked("search.trials", task=search)[:top]
    if json:
        print_json(found)
        return
    columns = ["TRIAL", "TASK", "STATUS", "METRICS~", "PARAMETERS~", "REASON~"]
    rows = [
        [
            r["trial"],
            short(r["task_id"]),
            r["status"],
            _words(r["metrics"]),
            _words(r["hyper_parameters"]),
            r["reason"],
        ]
        for r in found
    ]
    print_table(columns, rows, empty="it has no trials yet")


def _words(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{n}={v:.6g}" if isinstance(v, float) else f"{n}={v}" for n, v in values.items()
    )


@app.command()
def stop(search: Search) -> None:
    """Abort a search, and the trials that run."""
    asked("search.trials", task=search)  # it is one
    asked("abort", task=search)
    done = asked("wait", task=search)
    say(f"search {done['id']}: {done['status']}")
