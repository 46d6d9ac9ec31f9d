"""Whom an agent lets go first, from what it has heard of the others."""

from __future__ import annotations

from typing import Any, cast

from clearflow._prefect.events import Event
from clearflow._prefect.http import Api
from clearflow.agent.peers import CAME, LEFT, Peers


def test_agents_come_and_leave_with_their_queues() -> None:
    peers = _peers(a=1, b=1)
    assert peers.serving("cpu") == ["a", "b"]
    assert peers.serving("gpu") == []
    peers.hear(_told(LEFT, "a"))
    assert peers.serving("cpu") == ["b"]
    peers.keep(["c"])
    assert peers.serving("cpu") == []


def test_nobody_waits_for_an_agent_whose_slots_are_all_used() -> None:
    peers = _peers(one=1, two=2)
    peers.took("run-1", "one")
    peers.took("run-2", "two")
    assert peers.serving("cpu") == ["two"]
    peers.took("run-2", "two")  # heard twice
    assert peers.serving("cpu") == ["two"]
    peers.took("run-3", "two")
    assert peers.serving("cpu") == []
    peers.let_go("run-1")
    peers.let_go("run-1")
    assert peers.serving("cpu") == ["one"]


def test_a_run_that_another_takes_over_is_no_longer_the_first_ones() -> None:
    peers = _peers(a=1, b=1)
    peers.took("run", "a")
    peers.took("run", "b")
    assert peers.serving("cpu") == ["a"]


def test_what_people_and_unknown_agents_hold_counts_for_nobody() -> None:
    peers = _peers(a=1)
    peers.took("run-1", None)
    peers.took("run-2", "somebody")
    assert peers.serving("cpu") == ["a"]


def _peers(**slots: int) -> Peers:
    peers = Peers(cast(Api, None), "pool", "me")
    for name, count in {**slots, "me": 1}.items():
        peers.hear(_told(CAME, name, queues=["cpu"], slots=count))
    return peers


def _told(what: str, agent: str, **more: Any) -> Event:
    return Event(what, f"clearflow.agent.{agent}", {}, {"agent": agent, **more})
