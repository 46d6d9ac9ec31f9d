"""Prefect's automations: what runs a deployment when something has happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from clearflow import clock
from clearflow._prefect.http import Api
from clearflow.errors import NotFound

_PAGE = 200  # the server's limit


@dataclass(frozen=True, slots=True)
class Automation:
    """One automation. `updated` is when it was changed last, or switched on or off."""

    id: str
    name: str
    enabled: bool
    tags: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    updated: datetime | None = None
    body: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Automation:
        action: Mapping[str, Any] = next(iter(data.get("actions") or ()), {})
        return cls(
            id=str(data["id"]),
            name=data["name"],
            enabled=bool(data.get("enabled")),
            tags=tuple(data.get("tags") or ()),
            parameters=action.get("parameters") or {},
            updated=clock.parse(data["updated"]) if data.get("updated") else None,
            body=data,
        )


def on_event(
    expect: Sequence[str],
    match: Mapping[str, str | Sequence[str]],
    related: Sequence[Mapping[str, str | Sequence[str]]] = (),
) -> dict[str, Any]:
    """Fires for each of these events; what is matched are patterns, see `exactly`."""
    return {
        "type": "event",
        "posture": "Reactive",
        "expect": list(expect),
        "match": dict(match),
        "match_related": [dict(each) for each in related],
        "threshold": 1,
        "within": 0,
    }


def exactly(text: str) -> str:
    """The pattern that this text alone fits (of one that begins with `!` nearly)."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in text)
    return f"?{escaped[1:]}" if escaped.startswith("!") else escaped


def run_deployment(deployment_id: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """An action. Texts with `{{ … }}` are filled in from the event."""
    return {
        "type": "run-deployment",
        "source": "selected",
        "deployment_id": deployment_id,
        "parameters": dict(parameters),
        "job_variables": {},
    }


def verbatim(text: str) -> dict[str, str]:
    """A JSON text as a value of parameters, in which nothing is filled in."""
    return {"__prefect_kind": "json", "value": text}


async def put(
    api: Api,
    there: str | None,
    name: str,
    *,
    trigger: Mapping[str, Any],
    action: Mapping[str, Any],
    tags: Sequence[str],
    description: str = "",
    enabled: bool = True,
) -> None:
    """Make an automation, or change the one that is there by its id."""
    body = {
        "name": name,
        "description": description,
        "enabled": enabled,
        "tags": list(tags),
        "trigger": dict(trigger),
        "actions": [dict(action)],
    }
    if there is None:
        await api.post("/automations/", body)
    else:
        await api.request("PUT", f"/automations/{there}", body)


async def enable(api: Api, automation_id: str, enabled: bool) -> None:
    """Switch it on or off."""
    await api.patch(f"/automations/{automation_id}", {"enabled": enabled})


async def remove(api: Api, automation_id: str) -> None:
    """Delete it; one that is gone already is fine."""
    try:
        await api.delete(f"/automations/{automation_id}")
    except NotFound:
        return


async def tagged(api: Api, tags: Sequence[str]) -> list[Automation]:
    """The automations with all of these tags, by name."""
    found: list[Automation] = []
    while True:
        where = {"automations": {"tags": {"all_": list(tags)}}}
        body = {**where, "limit": _PAGE, "offset": len(found)}
        page = await api.post("/automations/filter", body)
        found += [Automation.parse(each) for each in page]
        if len(page) < _PAGE:
            return found
