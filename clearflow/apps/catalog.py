"""The applications: flows that agents run on the services queue, each with a form of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from clearflow.errors import NotFound, Usage

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class App:
    """One application: `flow` and `model` are names in its module.

    A module may have `async def check(settings)`, which is asked before anything is started, and
    raises what is wrong in one line. `lasting` ones run until they are aborted. One without a
    `flow` is a group: see apps/groups.py.
    """

    name: str
    summary: str
    module: str
    flow: str
    model: str
    lasting: bool = False

    @property
    def group(self) -> bool:
        """Whether it launches tasks, and is no run itself."""
        return not self.flow

    @property
    def entrypoint(self) -> str:
        """Where agents find its flow."""
        return f"{self.module}.{self.flow}"

    def settings(self, values: Mapping[str, Any]) -> BaseModel:
        """Settings from plain values. Raises Usage, in one line, for those that do not fit."""
        from clearflow.automation.forms import parsed

        try:
            return parsed(self._model(), values, self.name)
        except Usage as wrong:
            hint = f"`clearflow app show {self.name}` lists its settings"
            raise Usage(wrong.message, hint=hint) from None

    def fields(self) -> dict[str, Any]:
        """What its settings are, by name, in words of JSON Schema."""
        return dict(self._model().model_json_schema()["properties"])

    def _model(self) -> type[BaseModel]:
        model: type[BaseModel] = getattr(import_module(self.module), self.model)
        return model

    async def check(self, settings: BaseModel) -> None:
        """Raises a ClearflowError when it cannot work so."""
        check = getattr(import_module(self.module), "check", None)
        if check is not None:
            await check(settings)

    def schema(self) -> dict[str, Any]:
        """What Prefect's Run form asks for."""
        if self.group:
            from clearflow.automation.forms import form

            return form("settings", self._model())
        from prefect.utilities.callables import parameter_schema

        flow = getattr(import_module(self.module), self.flow)
        return dict(parameter_schema(flow).model_dump_for_openapi())


APPS = (
    App(
        "slack-monitor",
        "Tells Slack, and others, what becomes of tasks, queues and agents.",
        "clearflow.apps.slack",
        "slack_monitor",
        "SlackMonitorSettings",
        lasting=True,
    ),
    App(
        "cleanup",
        "Deletes tasks that ended long ago, with their results and consoles.",
        "clearflow.apps.cleanup",
        "cleanup",
        "CleanupSettings",
    ),
    App(
        "search",
        "Searches parameters: its trials are copies of a task.",
        "clearflow.apps.search",
        "search",
        "SearchSettings",
    ),
    App(
        "scheduler",
        "Launches tasks by the clock; see also `clearflow schedule`.",
        "clearflow.apps.groups",
        "",
        "SchedulerSettings",
    ),
    App(
        "triggers",
        "Launches tasks when something happens; see also `clearflow trigger`.",
        "clearflow.apps.groups",
        "",
        "TriggersSettings",
    ),
)


def named(name: str) -> App:
    """An application by its name. Raises NotFound."""
    for app in APPS:
        if app.name == name:
            return app
    raise NotFound(
        f"there is no application {name!r}",
        hint="there are " + ", ".join(app.name for app in APPS),
    )
