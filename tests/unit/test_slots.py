"""What an agent takes, by what it has free and what tasks ask for."""

from datetime import UTC, datetime, timedelta

from clearflow.agent import choose, slots
from clearflow.agent.slots import Offer, Used
from clearflow.words.models import Machine, Needs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOX = Machine(slots=4, gpus=("0", "1"), cpus=8, memory_mb=64_000)


def offer(name: str, passed: timedelta | None = None, *, gpus: int = 0) -> Offer:
    return Offer(name, Needs(gpus=gpus), NOW - passed if passed is not None else None)


def chosen(used: list[Used], *offers: Offer) -> str | None:
    found = slots.choose(BOX, used, offers, NOW)
    return found.run_id if found else None


def test_the_first_that_fits_is_taken() -> None:
    busy = [Used(Needs(gpus=1), ("0",))]
    assert chosen(busy, offer("two gpus", gpus=2), offer("one gpu", gpus=1)) == "one gpu"
    assert slots.pick_gpus(BOX, busy, Needs(gpus=1, says_gpus=True)) == ("1",)


def test_what_the_machine_could_never_run_is_left_to_others() -> None:
    assert chosen([], offer("too many gpus", gpus=3), offer("docker")) == "docker"
    assert slots.choose(BOX, [], [Offer("x", Needs(runtime="docker"))], NOW) is None


def test_nothing_is_taken_without_a_slot() -> None:
    assert chosen([Used(Needs())] * 4, offer("small")) is None


def test_a_task_passed_over_for_long_gets_what_frees_up() -> None:
    busy = [Used(Needs(gpus=1), ("0",))]
    waits = timedelta(minutes=11)
    assert chosen(busy, offer("large", waits, gpus=2), offer("small", gpus=1)) is None
    assert chosen(busy, offer("large", waits, gpus=2), offer("other")) == "other"
    assert chosen([], offer("large", waits, gpus=2), offer("small", gpus=1)) == "large"


def test_a_task_that_does_not_say_gets_all_gpus_of_an_agent_with_one_slot() -> None:
    alone = Machine(slots=1, gpus=("0", "1"), cpus=8, memory_mb=1000)
    assert slots.pick_gpus(alone, [], Needs()) == ("0", "1")
    assert slots.pick_gpus(alone, [], Needs(gpus=0, says_gpus=True)) == ()
    assert slots.pick_gpus(BOX, [], Needs()) == ()


def test_queues_are_asked_by_preference_or_in_turn() -> None:
    queues = ["a", "b", "c"]
    assert choose.order(queues, False, "a") == ["a", "b", "c"]
    assert choose.order(queues, True, "a") == ["b", "c", "a"]
    assert choose.order(queues, True, None) == ["a", "b", "c"]


def test_one_enqueue_wakes_few_of_many_agents_soon() -> None:
    agents = [f"box-{n}:0" for n in range(200)]
    delays = sorted(choose.delay(a, "task", agents) for a in agents)
    assert delays[0] == 0
    early = [d for d in delays if d < choose.PAUSE * 200 / choose.MANY]
    assert len(early) == choose.FIRST
    soon = [d for d in delays if d < choose.PAUSE * 200 / choose.MANY + 1]
    assert len(soon) <= choose.FIRST + 6  # the rest leave a busy server time to tell
    assert delays[-1] < choose.LAST_TURN * 1.5
    few = [choose.delay(a, "task", agents[:10]) for a in agents[:10]]
    assert max(few) < choose.PAUSE + 10 * choose.PER_AGENT
    assert choose.delay("alone", "task", []) == 0
