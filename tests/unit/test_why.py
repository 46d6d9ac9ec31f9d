"""Why a task waits."""

from dataclasses import replace
from typing import Any

import pytest

from clearflow.words.models import Machine, Needs, Queue
from clearflow.words.why import Serving, Situation, why

CPU = Queue(id="1", name="cpu", pool="clearflow")
IDLE = Serving("host:0", ("cpu", "gpu"), "running", Machine(slots=2, cpus=4, memory_mb=8000))
BUSY = replace(IDLE, busy=2)
NOTHING = Needs()
DOCKER = Machine(runtimes=("docker", "process"), images=("python:*",))


def situation(*agents: Serving, **changes: Any) -> Situation:
    return replace(Situation(queue=CPU, agents=agents), **changes)


def gpus(count: int, busy: int = 0) -> Serving:
    return replace(IDLE, machine=Machine(gpus=tuple(map(str, range(count)))), busy=busy)


@pytest.mark.parametrize(
    ("needs", "now", "said"),
    [
        (NOTHING, situation(pool_paused=True), "pool paused"),
        (NOTHING, situation(queue=replace(CPU, paused=True)), "queue paused"),
        (NOTHING, situation(queue=replace(CPU, limit=3), active=3), "limit reached (3 of 3)"),
        (NOTHING, situation(queue=replace(CPU, limit=0)), "limit reached (0 of 0)"),
        (
            NOTHING,
            situation(pool_limit=5, pool_active=6),
            "limit of the pool reached (6 of 5)",
        ),
        (NOTHING, situation(), "no agent serves this queue"),
        (NOTHING, situation(replace(IDLE, queues=("gpu",))), "no agent serves this queue"),
        (NOTHING, situation(replace(IDLE, status="offline")), "its agent is offline"),
        (
            NOTHING,
            situation(replace(IDLE, status="paused"), replace(IDLE, status="paused")),
            "all its agents are paused",
        ),
        (
            NOTHING,
            situation(replace(IDLE, status="paused"), replace(IDLE, status="offline")),
            "no agent takes tasks now (1 offline, 1 paused)",
        ),
        (Needs(gpus=2), situation(gpus(0)), "needs 2 GPUs and no agent has them"),
        (Needs(gpus=3), situation(gpus(2)), "needs 3 GPUs and no agent has more than 2"),
        (Needs(gpus=1), situation(gpus(0)), "needs a GPU and no agent has one"),
        (
            Needs(gpus=1),
            situation(gpus(0), replace(gpus(2), status="offline")),
            "needs a GPU and no agent has one",
        ),
        (Needs(runtime="docker"), situation(IDLE), "needs docker and no agent has it"),
        (
            Needs.parse({"image": "other:1"}),
            situation(replace(IDLE, machine=DOCKER), IDLE),
            "no agent allows the image other:1",
        ),
        (
            Needs.parse({"image": "python:3.12"}),
            situation(replace(IDLE, machine=DOCKER)),
            "about to start",
        ),
        (
            Needs.parse({"image": "other:1", "runtime": "process"}),
            situation(replace(IDLE, machine=DOCKER)),
            "about to start",
        ),
        (Needs(cpus=8), situation(IDLE), "needs 8 CPUs and no agent has more than 4"),
        (
            Needs(memory_mb=9000),
            situation(IDLE),
            "needs 9000 MB of memory and no agent has more than 8000",
        ),
        (
            Needs(gpus=1, cpus=4),
            situation(IDLE, gpus(1)),
            "no agent has all it needs at once",
        ),
        (NOTHING, situation(BUSY), "agents busy (2 of 2 slots)"),
        (NOTHING, situation(BUSY, replace(BUSY, status="paused")), "agents busy (2 of 2 slots)"),
        (Needs(gpus=1), situation(IDLE, gpus(1, busy=1)), "agents busy (1 of 1 slots)"),
        (NOTHING, situation(IDLE), "about to start"),
    ],
)
def test_why(needs: Needs, now: Situation, said: str) -> None:
    assert why(needs, now) == said


def test_the_place_in_the_line_matters_when_slots_are_free() -> None:
    assert why(NOTHING, situation(IDLE), ahead=1) == "behind 1 other"
    assert why(NOTHING, situation(IDLE), ahead=4) == "behind 4 others"
    assert why(NOTHING, situation(BUSY), ahead=4) == "agents busy (2 of 2 slots)"


def test_a_limit_of_the_deployment_is_told_by_the_state() -> None:
    said = why(NOTHING, situation(IDLE), state="AwaitingConcurrencySlot")
    assert said == "concurrency limit of its deployment reached"
