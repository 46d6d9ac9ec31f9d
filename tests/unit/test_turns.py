"""Of the runs that are woken for one scheduler, one launches what is due."""

from __future__ import annotations

from typing import Any

from clearflow._prefect.http import Api
from clearflow.automation import turns
from clearflow.errors import Conflict, NotFound

_OF = "0a1b"


class Records(Api):
    """A server that has Variables, and runs in states."""

    def __init__(self, **states: str) -> None:
        self.kept: dict[str, Any] = {}
        self.states = states

    async def post(self, path: str, body: Any = None) -> Any:
        if body["name"] in self.kept:
            raise Conflict("there is one of this name")
        self.kept[body["name"]] = body["value"]

    async def get(self, path: str, **query: Any) -> Any:
        kind, _, name = path.rpartition("/")
        if kind == "/flow_runs" and name in self.states:
            type = self.states[name]
            return {"id": name, "name": name, "state": {"id": "s", "type": type, "name": type}}
        if name not in self.kept:
            raise NotFound(path)
        return {"value": self.kept[name]}

    async def patch(self, path: str, body: Any) -> Any:
        self.kept[path.rpartition("/")[2]] = body["value"]

    async def delete(self, path: str) -> Any:
        if self.kept.pop(path.rpartition("/")[2], None) is None:
            raise NotFound(path)


async def test_one_works_and_the_others_wait() -> None:
    api = Records(first="RUNNING", second="RUNNING")
    assert await turns.take(api, _OF, "first") is True
    assert await turns.take(api, _OF, "second") is None
    await turns.give_back(api, _OF)
    assert await turns.take(api, _OF, "second") is True


async def test_who_comes_after_one_that_died_knows_that_somebody_has_begun() -> None:
    for end in ("SCHEDULED", "CRASHED", "CANCELLED"):
        api = Records(first=end, third="RUNNING")
        assert await turns.take(api, _OF, "first") is True
        assert await turns.take(api, _OF, "second") is False
    deleted = Records()
    assert await turns.take(deleted, _OF, "first") is True
    assert await turns.take(deleted, _OF, "second") is False


async def test_one_that_begins_again_takes_up_its_own_turn() -> None:
    api = Records(first="RUNNING")
    assert await turns.take(api, _OF, "first") is True
    assert await turns.take(api, _OF, "first") is False
    await turns.give_back(api, _OF)
    await turns.give_back(api, _OF)
