"""What a schedule is: the words that people say, and the record that Prefect keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clearflow.automation import forms
from clearflow.automation.launching import Launch
from clearflow.errors import Usage
from clearflow.words import calendar, fires
from clearflow.words.calendar import Moment, When

_FOREVER = 1000


class Job(BaseModel):
    """One schedule as somebody asks for it: what to launch, and when."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    launch: Launch
    cron: str | None = None
    minute: int | None = None
    hour: int | None = None
    day: int | None = None
    weekdays: list[str] = Field(default_factory=list)
    month: int | None = None
    year: int | None = None
    timezone: str = "UTC"
    recurring: bool = True
    execute_immediately: bool = False
    missed: Literal["all", "once", "skip"] = "all"
    direct: bool = Field(False, description="Prefect queues the task itself, as it is now.")
    active: bool = True

    @property
    def moment(self) -> Moment:
        return Moment(
            self.cron,
            self.minute,
            self.hour,
            self.day,
            tuple(self.weekdays),
            self.month,
            self.year,
            self.timezone,
        )

    def when(self, now: datetime) -> When | None:
        """Prefect's schedule; None for one that only runs at once. Raises Usage."""
        moment = self.moment
        if moment.empty and self.execute_immediately:
            calendar.zone(self.timezone)
            return None
        found = moment.when()
        following = upcoming(found.schedule, now)
        if not following:
            raise Usage(f"{self.name!r} would never run: {found.words}")
        return found if self.recurring else calendar.once(following[0], self.timezone)


class Firing(BaseModel):
    """What one schedule has `clearflow-launch` do: the parameter of its runs."""

    model_config = ConfigDict(extra="forbid")

    scheduler: str = Field(description="The name of the scheduler.")
    project: str = Field(description="Its project.")
    job: str = Field("", description="The name of the schedule; empty: all that is due.")
    words: str = Field("", description="When it fires.")
    zone: str = "UTC"
    missed: Literal["all", "once", "skip"] = "all"
    launch: Launch | None = Field(None, description="What it launches.")
    by: str = Field("", description="In whose name.")
    now: str = Field("", description="Set: launch it at once, this once.")

    def dump(self) -> dict[str, Any]:
        """As short as JSON has it."""
        return self.model_dump(mode="json", exclude_defaults=True)


def parsed(data: Mapping[str, Any]) -> Job:
    """A job from plain values. Raises Usage, in one line."""
    return forms.parsed(Job, data, "a schedule")


def upcoming(
    schedule: Mapping[str, Any], start: datetime, end: datetime | None = None, most: int = 1
) -> list[datetime]:
    """When it fires next, or until `end`. Raises Usage for what Prefect does not take."""
    # Prefect's own way to work it out takes seconds to import.
    from clearflow._prefect import private

    try:
        return private.fires(schedule, start, end, _FOREVER if end is not None else most)
    except (ValueError, ValidationError) as error:
        said = schedule.get("cron") or schedule.get("rrule") or schedule
        text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise Usage(
            f"{said!r} is no schedule: {text.removeprefix('Value error, ')}",
            hint="five fields: minute hour day month weekday, such as '30 8 * * 1-5'",
        ) from None


def refuse_direct(job: Job) -> None:
    """Raise Usage for what Prefect cannot do by itself."""
    order = job.launch
    asked = {
        "the latest of several tasks": order.choice is not None,
        "single_instance": order.single_instance,
        "reuse_task": order.reuse,
        "templates": any(True for _ in _templates(order)),
        f"missed={job.missed!r}": job.missed != fires.ALL,
        "no time": job.moment.empty,
    }
    wrong = [word for word, there in asked.items() if there]
    if wrong:
        raise Usage(f"{job.name!r} cannot be direct with {', '.join(wrong)}")


def _templates(order: Launch) -> Any:
    from clearflow.words.templates import references

    for value in (order.parameters, order.overrides, order.name, order.comment, order.tags):
        yield from references(value)
