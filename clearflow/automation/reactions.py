"""What a trigger is: the words that people say, and the record that its automation keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from clearflow.automation import forms
from clearflow.automation.launching import Launch
from clearflow.words import triggers
from clearflow.words.triggers import When

_ENDS = (triggers.PUBLISHED, triggers.ARCHIVED)


class Trigger(BaseModel):
    """One trigger as somebody asks for it: what to launch, and what it waits for."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    kind: Literal["dataset", "model", "task"]
    launch: Launch
    project: str | None = None
    pattern: str | None = Field(None, description="A regular expression, searched in the name.")
    tags: list[str] = Field(default_factory=list, description="All of them.")
    any_tags: list[str] = Field(default_factory=list, description="One of them.")
    required_tags: list[str] = Field(default_factory=list, description="All of these too.")
    on_publish: bool = False
    on_archive: bool = False
    statuses: list[str] = Field(default_factory=list, description="Of a task, one of them.")
    exclude_local: bool = Field(False, description="Not for tasks that no agent runs.")
    metric: str | None = Field(None, description="The title of a scalar.")
    variant: str | None = Field(None, description="The series of it; any without one.")
    threshold: float | None = None
    sign: Literal["min", "max"] = "min"
    add_tag: str | None = Field(None, description="Of the launched task; the trigger's name.")
    no_tag: bool = False
    active: bool = True

    def when(self) -> When:
        """What it waits for. Raises Usage."""
        found = When(
            kind=self.kind,
            project=self.project,
            name=self.pattern,
            tags=tuple(self.tags),
            any_tags=tuple(self.any_tags),
            required_tags=tuple(self.required_tags),
            publish=self.on_publish or triggers.PUBLISHED in self.statuses,
            archive=self.on_archive or triggers.ARCHIVED in self.statuses,
            statuses=tuple(s for s in self.statuses if s not in _ENDS),
            metric=self.metric,
            variant=self.variant,
            threshold=self.threshold,
            sign=self.sign,
        )
        triggers.check(found)
        return found

    def dump(self) -> dict[str, Any]:
        """As short as JSON has it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def order(self) -> Launch:
        """What it launches, with the tag that says who did it."""
        tags = [] if self.no_tag else [self.add_tag or self.name]
        return self.launch.model_copy(update={"tags": [*self.launch.tags, *tags]})


class Told(BaseModel):
    """An event, as an automation passes it on."""

    id: str
    name: str
    resource: str
    occurred: str = ""
    payload: dict[str, Any] = Field(default_factory=dict)


class Reaction(BaseModel):
    """What one event has `clearflow-trigger` do: the parameter of its runs."""

    model_config = ConfigDict(extra="forbid")

    scheduler: str = Field(description="The name of the group of triggers.")
    project: str = Field(description="Its project.")
    group: str = Field("", description="The id of its deployment.")
    trigger: Trigger | None = Field(None, description="Empty: look for what was missed.")
    event: Told | None = Field(None, description="What happened.")
    by: str = Field("", description="In whose name.")

    def dump(self) -> dict[str, Any]:
        """As short as JSON has it."""
        return self.model_dump(mode="json", exclude_defaults=True)


EVENT = {
    "id": {"__prefect_kind": "jinja", "template": "{{ event.id }}"},
    "name": "{{ event.event }}",
    "resource": "{{ event.resource.id }}",
    "occurred": {"__prefect_kind": "jinja", "template": "{{ event.occurred }}"},
    "payload": "{{ event.payload }}",
}
"""An event in the words of Prefect's templates."""


def parsed(data: Mapping[str, Any]) -> Trigger:
    """A trigger from plain values. Raises Usage, in one line."""
    return forms.parsed(Trigger, data, "a trigger")
