"""The application `slack-monitor`: tells a Slack channel, and others, what becomes of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from prefect import flow, get_run_logger
from pydantic import BaseModel, ConfigDict, Field

from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.automation.alerts import Wanted
from clearflow.automation.channels import Channel, Notification, NotNow, secret
from clearflow.automation.monitor import Order, Watch
from clearflow.automation.slack import Slack
from clearflow.errors import Usage

Kind = Literal["completed", "failed", "aborted", "crashed", "lost"]
Minutes = Annotated[float | None, Field(gt=0)]


class SlackMonitorSettings(BaseModel):
    """What to tell, and where. Lists that are empty ask for nothing."""

    model_config = ConfigDict(extra="forbid")

    channel: str = Field("", description="A Slack channel, such as #training; empty: none.")
    token_block: str = Field(
        "slack-token", description="The Secret block that holds the bot's token."
    )
    also: list[str] = Field(
        default_factory=list,
        description="Notification blocks to tell too, such as email/oncall or ms-teams/ops.",
    )
    tell: list[Kind] = Field(
        default=["failed", "crashed", "lost"], description="What is told of tasks."
    )
    projects: list[str] = Field(default_factory=list, description="Only of these projects.")
    users: list[str] = Field(default_factory=list, description="Only of these people.")
    exclude_users: list[str] = Field(default_factory=list, description="Not of these people.")
    tags: list[str] = Field(default_factory=list, description="Only with any of these tags.")
    min_iterations: int = Field(0, ge=0, description="Only tasks that came so far.")
    queue_wait_minutes: Minutes = Field(
        None, description="Tell when the head of a queue has been waiting for longer."
    )
    agent_down: bool = Field(True, description="Tell when an agent is silent.")
    idle_gpu_minutes: Minutes = Field(
        None, description="Tell when an agent's GPUs have had nothing to do for longer."
    )
    message_prefix: str = Field("", description="What every message begins with, such as <!here>.")
    console_lines: int = Field(10, ge=0, le=50, description="Last lines of a task's console.")
    api_url: str = Field("https://slack.com/api/", description="Where Slack's API is.")

    def order(self) -> Order:
        """As the engine wants it."""
        wanted = Wanted(self.tell, self.projects, self.users, self.exclude_users, self.tags)
        return Order(
            wanted,
            min_iterations=self.min_iterations,
            wait_minutes=self.queue_wait_minutes,
            agent_down=self.agent_down,
            idle_minutes=self.idle_gpu_minutes,
            prefix=self.message_prefix,
            console_lines=self.console_lines,
        )


async def channels(settings: SlackMonitorSettings, token: str | None = None) -> list[Channel]:
    """Where the messages go, each looked at.

    Raises Usage for none, NotFound for a channel or block that is not there, Unauthorized for a
    token that Slack does not accept.
    """
    found: list[Slack | Notification] = []
    if settings.channel:
        key = token if token is not None else await secret(settings.token_block)
        found.append(Slack(key, settings.channel, settings.api_url))
    found += [Notification(block) for block in settings.also]
    if not found:
        raise Usage("a monitor needs somebody to tell", hint="a Slack channel, such as #training")
    for each in found:
        try:
            await each.check()
        except NotNow:
            continue  # it is asked again when there is something to tell
    return list(found)


async def check(settings: SlackMonitorSettings) -> None:
    """What can be known before it runs. Raises as `channels`."""
    await channels(settings)


async def watch(
    api: Api,
    name: str,
    settings: SlackMonitorSettings,
    say: Callable[[str], None],
    token: str | None = None,
) -> None:
    """Watch, for ever. Raises as `channels`."""
    told: Sequence[Channel] = await channels(settings, token)
    say(f"{name}: tells {', '.join(c.name for c in told)} of {', '.join(settings.tell)}")
    await Watch(api, name, settings.order(), told, say).run()


@flow(name="clearflow-slack-monitor", log_prints=False)
async def slack_monitor(settings: SlackMonitorSettings, name: str = "slack-monitor") -> None:
    """Tells Slack what becomes of tasks, until it is aborted; goes on where it has stopped."""
    logger = get_run_logger()
    async with Api(connection(), give_up_after=None) as api:
        await watch(api, name, settings, logger.info)
