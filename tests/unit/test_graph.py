"""What a pipeline decides: who starts, who is skipped, and how it all ends."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearflow.errors import Usage
from clearflow.words.graph import (
    ABORTED,
    CACHED,
    COMPLETED,
    FAILED,
    LONGEST_DELAY,
    RUNNING,
    SKIPPED,
    WAITING,
    Graph,
    Node,
)


def graph(*nodes: Node, abort_on_failure: bool = False) -> Graph:
    made = Graph(abort_on_failure)
    for node in nodes:
        made.add(node)
    return made


def statuses(made: Graph) -> dict[str, str]:
    return {name: node.status for name, node in made.nodes.items()}


def test_a_step_starts_when_all_before_it_have_completed() -> None:
    made = graph(Node("c", ["a", "b"]), Node("a"), Node("b"))
    made.check()
    assert made.begin().start == ["a", "b"]
    made.started("a")
    made.started("b")
    assert made.ended("a", COMPLETED).start == []
    assert made.ended("b", CACHED).start == ["c"]
    assert not made.over
    made.ended("c", COMPLETED)
    assert made.over
    assert made.failed == []


def test_steps_that_come_later_start_by_what_has_ended_already() -> None:
    made = graph(Node("a"))
    made.begin()
    made.ended("a", COMPLETED)
    made.add(Node("b", ["a"]))
    assert made.begin().start == ["b"]
    made.ended("b", FAILED)
    made.add(Node("c", ["b", "a"]))
    made.add(Node("d", ["c"]))
    assert made.begin().start == []
    assert statuses(made) == {"a": COMPLETED, "b": FAILED, "c": SKIPPED, "d": SKIPPED}
    assert made.over


def test_the_children_of_a_failed_step_do_not_run_and_other_branches_do() -> None:
    made = graph(Node("a"), Node("b", ["a"]), Node("c", ["b"]), Node("x"), Node("y", ["x"]))
    made.begin()
    moves = made.ended("a", FAILED)
    assert moves.skipped == ["b", "c"]
    assert not moves.stop
    assert made.ended("x", COMPLETED).start == ["y"]
    made.ended("y", COMPLETED)
    assert made.over
    assert made.failed == ["a"]


def test_abort_on_failure_stops_everything() -> None:
    made = graph(Node("a"), Node("b"), Node("c", ["b"]), abort_on_failure=True)
    made.begin()
    assert made.ended("a", FAILED).stop
    made.started("b")
    assert made.stop() == ["c"]
    assert statuses(made) == {"a": FAILED, "b": RUNNING, "c": SKIPPED}


def test_continue_behaviours() -> None:
    lenient = Node("a", continue_on_fail=True)
    made = graph(lenient, Node("b", ["a"]), abort_on_failure=True)
    made.begin()
    moves = made.ended("a", FAILED)
    assert (moves.skipped, moves.stop, made.failed) == (["b"], False, [])
    passing = Node("a", continue_on_fail=True, skip_children_on_fail=False)
    made = graph(passing, Node("b", ["a"]))
    made.begin()
    assert made.ended("a", FAILED).start == ["b"]
    aborted = Node("a", continue_on_abort=True, skip_children_on_abort=False)
    made = graph(aborted, Node("b", ["a"]))
    made.begin()
    assert made.ended("a", ABORTED).start == ["b"]
    made = graph(Node("a"))
    made.ended("a", ABORTED)
    assert made.failed == ["a"]


def test_tries_come_later_and_later() -> None:
    node = Node("a", retries=2, delay=3.0)
    node.tries = 1
    assert node.pause() == 3.0
    node.tries = 2
    assert node.pause() == 6.0
    node.tries = 3
    assert node.pause() is None
    endless = Node("b", retries=10**9, delay=60.0)
    endless.tries = 1000
    assert endless.pause() == LONGEST_DELAY


def test_clearml_shared_retries_between_all_pipelines() -> None:
    """ClearML keeps the retries of all controllers of a program in one dictionary."""
    one, other = graph(Node("a", retries=1)), graph(Node("a", retries=1))
    one.started("a")
    one.started("a")
    assert one.nodes["a"].pause() is None
    other.started("a")
    assert other.nodes["a"].pause() == 0.0


def test_what_cannot_be_is_said_in_one_line() -> None:
    with pytest.raises(Usage, match="the steps wait for each other: a → c → b → a"):
        graph(Node("a", ["b"]), Node("b", ["c"]), Node("c", ["a"]), Node("d", ["a"])).check()
    with pytest.raises(Usage, match="the step 'a' comes after 'nobody', which is no step"):
        graph(Node("a", ["nobody"])).check()
    with pytest.raises(Usage, match="two steps named 'a'"):
        graph(Node("a"), Node("a"))
    with pytest.raises(Usage, match=r"cannot be named 'a\.b'"):
        graph(Node("a.b"))
    with pytest.raises(Usage, match="a → a"):
        graph(Node("a", ["a"])).check()


@given(st.integers(0, 10**6), st.integers(1, 30))
def test_every_step_ends_once_and_none_before_its_parents(seed: int, size: int) -> None:
    chance = random.Random(seed)
    names = [str(n) for n in range(size)]
    made = graph(
        *(
            Node(
                name,
                chance.sample(names[:n], min(n, chance.randint(0, 3))),
                continue_on_fail=chance.random() < 0.3,
                skip_children_on_fail=chance.random() < 0.5,
            )
            for n, name in enumerate(names)
        )
    )
    made.check()
    ready, started, ended = list(made.begin().start), [], 0
    while ready:
        name = ready.pop(chance.randrange(len(ready)))
        node = made.nodes[name]
        assert node.status == WAITING
        assert all(made.nodes[p].over and made.nodes[p].passes for p in node.parents)
        made.started(name)
        started.append(name)
        moves = made.ended(name, chance.choice([COMPLETED, CACHED, FAILED, ABORTED]))
        ready += moves.start
        ended += 1 + len(moves.skipped)
    assert len(started) == len(set(started))
    assert made.over
    assert ended == size


def test_the_work_grows_with_the_edges_and_not_with_their_square() -> None:
    def cost(size: int) -> float:
        made = graph(*(Node(str(n), [str(n - 1)] if n else []) for n in range(size)))
        began = time.process_time()
        made.check()
        ready = made.begin().start
        while ready:
            made.started(ready[0])
            ready = made.ended(ready[0], COMPLETED).start
        assert made.over
        return time.process_time() - began

    cost(500)
    assert cost(20_000) < 100 * max(cost(2_000), 0.001)
