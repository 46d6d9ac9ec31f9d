"""`clearflow task`: see, follow, abort and queue tasks."""

from __future__ import annotations

import typer

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Tasks: see, follow, abort and queue them."
)
