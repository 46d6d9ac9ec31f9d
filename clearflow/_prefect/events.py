"""The server's event stream: what wakes agents, and how they are told something."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from clearflow import clock
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow.words.models import State

FLOW_RUN = "prefect.flow-run."
QUEUE_CHANGED = "clearflow.queue.changed"
TAG = "clearflow.tag."
"""How the labels begin that say which tags the resource of an event has."""
_PAGE = 50  # the server's limit


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name, the id of its resource, and the related ids by role."""

    name: str
    resource: str
    related: Mapping[str, str]
    payload: Mapping[str, Any]
    state_type: str | None = None
    occurred: datetime | None = None
    id: str = ""

    @property
    def state(self) -> State | None:
        """The state that a run has now, of an event that tells of a new one.

        Its id is that of the event; it comes without its times and details.
        """
        told = self.payload.get("validated_state")
        if self.run_id is None or not isinstance(told, Mapping):
            return None
        message = str(told.get("message") or "")
        return State(
            type=str(told["type"]), name=str(told.get("name")), message=message, id=self.id
        )

    @property
    def run_id(self) -> str | None:
        """The id of the flow run it is about."""
        head, _, run_id = self.resource.partition("prefect.flow-run.")
        return run_id if not head and run_id else None

    @property
    def queue_id(self) -> str | None:
        """The id of the work queue it is about."""
        return self.related.get("work-queue", "").removeprefix("prefect.work-queue.") or None


CONNECTED = Event("clearflow.connected", "", {}, {})


async def stream(
    connection: Connection, resources: Sequence[str], names: Sequence[str] = ()
) -> AsyncIterator[Event]:
    """Events about any of these resources, as they happen, for ever.

    Connects again when the connection breaks. Every connection starts with the event CONNECTED:
    what happened before it has to be asked for. `resources` are ids such as
    `prefect.work-pool.<id>`, matched against the resource and the related ones; none for any.
    `names` are event names, where a trailing `*` matches any ending.

    Events are sent before the change they speak of is committed, and a subscriber that falls
    more than 256 behind misses some: an event is a hint to look.
    """
    # Only those who listen need it.
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException
    from websockets.typing import Subprotocol

    url = connection.url.replace("http", "ws", 1) + "/events/out"
    failures = 0
    while True:
        try:
            async with connect(
                url,
                subprotocols=[Subprotocol("prefect")],
                additional_headers=dict(connection.headers),
                max_size=None,
                proxy=None,
            ) as socket:
                token = connection.key or connection.auth_string
                await socket.send(json.dumps({"type": "auth", "token": token}))
                answer = json.loads(await socket.recv())
                if answer.get("type") != "auth_success":
                    raise ConnectionError(str(answer.get("reason")))
                await socket.send(json.dumps(_filter(resources, names)))
                failures = 0
                yield CONNECTED
                async for message in socket:
                    data = json.loads(message)
                    if data.get("type") == "event":
                        yield _parse(data["event"])
        except (OSError, WebSocketException, ConnectionError, ValueError):
            pass
        failures += 1
        await asyncio.sleep(min(0.2 * 2 ** min(failures, 8), 15.0) * random.uniform(0.5, 1.0))


def _filter(resources: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    now = clock.now()
    since, until = now - timedelta(hours=1), now + timedelta(days=365)
    chosen = _chosen(resources, names, since, until)
    return {"type": "filter", "filter": chosen, "backfill": False}


def _chosen(
    resources: Sequence[str], names: Sequence[str], since: datetime, until: datetime
) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "occurred": {"since": since.isoformat(), "until": until.isoformat()},
    }
    if resources:
        # `related` would be ignored on the live stream.
        chosen["any_resource"] = {"id": list(resources)}
    exact = [n for n in names if not n.endswith("*")]
    prefixes = [n[:-1] for n in names if n.endswith("*")]
    if names:
        # Of names and prefixes an event would have to fit both; a name is a prefix of itself.
        chosen["event"] = {"prefix": [*prefixes, *exact]} if prefixes else {"name": exact}
    return chosen


async def happened(
    api: Api,
    names: Sequence[str],
    since: datetime,
    *,
    resources: Sequence[str] = (),
) -> AsyncIterator[Event]:
    """Events that the server has stored since then, the oldest first; `names` as for `stream`.

    It stores them a few seconds after they occurred, and keeps them for a week by default.
    """
    until = api.clock.now() + timedelta(hours=1)
    asked = {**_chosen(resources, names, since, until), "order": "ASC"}
    page = await api.post("/events/filter", {"filter": asked, "limit": _PAGE})
    while True:
        for data in page["events"]:
            yield _parse(data)
        following = page.get("next_page")
        if not following:
            return
        token = str(following).partition("page-token=")[2]
        page = await api.get("/events/filter/next", **{"page-token": token})


def _parse(data: Mapping[str, Any]) -> Event:
    related = {
        r.get("prefect.resource.role", ""): r.get("prefect.resource.id", "")
        for r in data.get("related") or ()
    }
    names = {
        f"{r.get('prefect.resource.role', '')}.name": r["prefect.resource.name"]
        for r in data.get("related") or ()
        if r.get("prefect.resource.name")
    }
    return Event(
        name=data["event"],
        resource=data["resource"].get("prefect.resource.id", ""),
        related={**related, **names},
        payload=data.get("payload") or {},
        state_type=data["resource"].get("prefect.state-type"),
        occurred=clock.parse(data["occurred"]),
        id=str(data.get("id") or ""),
    )


async def emit(
    api: Api,
    name: str,
    resource: str,
    *,
    labels: Mapping[str, str] | None = None,
    related: Mapping[str, str] | None = None,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """Tell everybody who listens; `related` maps resource ids to roles.

    `labels` are further words about the resource: what automations can match. Each of the `tags`
    in the payload is one too: `clearflow.tag.<tag>`.
    """
    told = dict(payload or {})
    tagged = {f"{TAG}{tag}": str(tag) for tag in told.get("tags") or ()}
    event = {
        "id": str(uuid4()),
        "occurred": api.clock.likely().isoformat(),
        "event": name,
        "resource": {"prefect.resource.id": resource, **tagged, **(labels or {})},
        "related": [
            {"prefect.resource.id": i, "prefect.resource.role": role}
            for i, role in (related or {}).items()
        ],
        "payload": told,
    }
    await api.post("/events", [event])
