"""How commands show things: tables that fit the terminal, plain text in a pipe, JSON."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from clearflow.clock import duration

if TYPE_CHECKING:
    from clearflow._prefect.http import Api
    from clearflow._prefect.many import Progress

T = TypeVar("T")

_GAP = "  "
_LEAST = 4  # columns of the terminal that a column of a table keeps as long as possible

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Pool = Annotated[
    str | None, typer.Option(help="The work pool (default: CLEARFLOW_POOL, or clearflow).")
]


def ask(call: Callable[[Api], Awaitable[T]]) -> T:
    """Ask the server something. Ctrl-C ends the command with 130 and without a trace."""
    from clearflow._prefect import compat
    from clearflow._prefect.seam import run

    async def warned(api: Api) -> T:
        await compat.warn(api, say)
        return await call(api)

    try:
        return run(warned)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)


def pool_name(pool: str | None) -> str:
    from clearflow.settings import settings

    return pool or settings().pool


def say(text: str) -> None:
    """Talk: what was done, or what to do next."""
    print(text, file=sys.stderr)


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be taken back. Raises Usage without a terminal."""
    from clearflow.errors import Usage

    if yes:
        return
    if not sys.stdin.isatty():
        raise Usage(f"{question} Nobody is there to ask", hint="--yes answers it")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def print_json(data: Any) -> None:
    print(json.dumps(data, default=_plain, indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str = "") -> None:
    """A table; `empty` is said instead when there are no rows.

    On a terminal it is as wide as that at most: columns whose name ends in ~ are cut first.
    """
    if not rows:
        say(empty or "nothing")
        return
    names = [c.rstrip("~") for c in columns]
    cells = [["" if cell is None else _printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(names, *cells, strict=True)]
    if not sys.stdout.isatty():
        for row in [names, *cells]:
            print(_line(row, widths))
        return
    widths = _fitted(widths, [c.endswith("~") for c in columns])
    print(f"\x1b[1m{_line(names, widths)}\x1b[0m")
    for row in cells:
        print(_line(row, widths))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cut = [_cut(cell, width) for cell, width in zip(row, widths, strict=True)]
    padded = [c + " " * (width - _width(c)) for c, width in zip(cut, widths, strict=True)]
    return _GAP.join(padded).rstrip()


def _fitted(widths: Sequence[int], soft: Sequence[bool]) -> list[int]:
    """Widths that fit the terminal: the widest soft column gives first, then any."""
    fitted = list(widths)
    room = shutil.get_terminal_size().columns - len(_GAP) * (len(widths) - 1)
    everything = range(len(fitted))
    for some, least in (([i for i in everything if soft[i]], _LEAST), (everything, 1)):
        while sum(fitted) > room and (wide := [i for i in some if fitted[i] > least]):
            fitted[max(wide, key=lambda i: fitted[i])] -= 1
    return fitted


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _printable(text: str) -> str:
    """Names of any kind on one line, and none of them may steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _width(text: str) -> int:
    """How many columns of a terminal it takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) != 0 for c in text)


def short(task_id: str) -> str:
    """An id for a table: all of it for programs, what people need of it on a terminal."""
    return task_id[:8] if sys.stdout.isatty() else task_id


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Progress of something that may take more than a second, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago something was, such as `3 min`."""
    return duration((now - moment).total_seconds()) if moment else ""
