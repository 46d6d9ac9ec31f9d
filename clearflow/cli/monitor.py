"""`clearflow monitor`: tell Slack, and others, what becomes of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearflow.cli.output import say

if TYPE_CHECKING:
    from clearflow._prefect.http import Api

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Monitors: who is told what becomes of tasks."
)


@app.callback()
def _group() -> None:
    """Monitors: who is told what becomes of tasks."""


@app.command()
def slack(
    channel: Annotated[str, typer.Option(help="The Slack channel, such as '#training'.")] = "",
    also: Annotated[
        list[str] | None,
        typer.Option(help="A notification block to tell too, as TYPE/NAME; repeatable."),
    ] = None,
    tell: Annotated[
        list[str] | None,
        typer.Option(help="completed, failed, aborted, crashed or lost; repeatable."),
    ] = None,
    project: Annotated[list[str] | None, typer.Option(help="Only of this; repeatable.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="Only of this one; repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with any of these.")] = None,
    min_iterations: Annotated[int, typer.Option(min=0, help="Only tasks that came so far.")] = 0,
    queue_wait: Annotated[
        float | None, typer.Option(help="Tell of queues whose head waits for so many minutes.")
    ] = None,
    idle_gpu: Annotated[
        float | None, typer.Option(help="Tell of GPUs without a task for so many minutes.")
    ] = None,
    token_block: Annotated[
        str, typer.Option(help="The Secret block that holds the bot's token.")
    ] = "slack-token",
    prefix: Annotated[str, typer.Option(help="What every message begins with.")] = "",
    name: Annotated[str, typer.Option(help="Of that name one at a time.")] = "slack-monitor",
    remote: Annotated[
        bool, typer.Option("--remote", help="Have an agent of the services queue do it.")
    ] = False,
    api_url: Annotated[str, typer.Option(hidden=True)] = "https://slack.com/api/",
) -> None:
    """Tell Slack of tasks that fail, crash or are lost; here until Ctrl-C, or on an agent."""
    from clearflow.apps.catalog import named

    given: dict[str, Any] = {
        "channel": channel,
        "also": also or [],
        "projects": project or [],
        "users": user or [],
        "tags": tag or [],
        "min_iterations": min_iterations,
        "queue_wait_minutes": queue_wait,
        "idle_gpu_minutes": idle_gpu,
        "token_block": token_block,
        "message_prefix": prefix,
        "api_url": api_url,
        **({"tell": tell} if tell else {}),
    }
    if remote:
        from clearflow.cli import app as apps

        pairs = [f"{key}={_json(value)}" for key, value in given.items()]
        apps.launch("slack-monitor", pairs, name=name)
        return
    settings: Any = named("slack-monitor").settings(given)
    _here(name, settings)


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def _here(name: str, settings: Any) -> None:
    from clearflow.cli.output import ask

    async def act(api: Api) -> None:
        from clearflow.apps.slack import watch

        # It outlives the server.
        api.give_up_after = None
        await watch(api, name, settings, say)

    ask(act)
