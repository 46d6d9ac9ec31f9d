"""The decisions of a pipeline: which step starts, which is skipped, and how it all ends.

Pure: (the graph, what happened) -> what to do. Every step and every edge is looked at once, so
that 500 steps cost no more than 500 times one.

    waiting -> running -> completed | cached | failed | aborted        waiting -> skipped

Also used inside of tasks, so it keeps to Python 3.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from clearflow.errors import Usage

WAITING, RUNNING = "waiting", "running"
COMPLETED, CACHED, FAILED, ABORTED, SKIPPED = "completed", "cached", "failed", "aborted", "skipped"
_ENDS = frozenset({COMPLETED, CACHED, FAILED, ABORTED, SKIPPED})
_FORBIDDEN = "./${}"
LONGEST_DELAY = 3600.0  # seconds between two tries


@dataclass
class Node:
    """A step as far as decisions go: on whom it waits, and what its failure means.

    `delay` are the seconds before its second try, doubled before each further one.
    """

    name: str
    parents: Sequence[str] = ()
    retries: int = 0
    delay: float = 0.0
    continue_on_fail: bool = False
    continue_on_abort: bool = False
    skip_children_on_fail: bool = True
    skip_children_on_abort: bool = True
    status: str = WAITING
    tries: int = 0

    @property
    def over(self) -> bool:
        return self.status in _ENDS

    @property
    def passes(self) -> bool:
        """Whether its children may start, now that it has ended."""
        if self.status == FAILED:
            return self.continue_on_fail and not self.skip_children_on_fail
        if self.status == ABORTED:
            return self.continue_on_abort and not self.skip_children_on_abort
        return self.status in {COMPLETED, CACHED}

    @property
    def spoils(self) -> bool:
        """Whether its end makes the whole pipeline a failed one."""
        if self.status == FAILED:
            return not self.continue_on_fail
        return self.status == ABORTED and not self.continue_on_abort

    def pause(self) -> float | None:
        """Seconds until its next try after a failure; None when there is none left."""
        if self.tries > self.retries:
            return None
        return float(min(self.delay * 2 ** max(self.tries - 1, 0), LONGEST_DELAY))


@dataclass
class Moves:
    """What follows from the end of a step: who starts, who never will, whether all is to stop."""

    start: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    stop: bool = False


class Graph:
    """The steps of one pipeline, and where each stands."""

    def __init__(self, abort_on_failure: bool = False) -> None:
        self.abort_on_failure = abort_on_failure
        self.nodes: dict[str, Node] = {}
        self._open = 0
        self._unlinked: list[str] = []
        self._left: dict[str, int] = {}
        self._children: dict[str, list[str]] = {}

    def add(self, node: Node) -> None:
        """A further step; `begin` says whether it can start. Raises Usage for its name."""
        if not node.name or any(c in _FORBIDDEN for c in node.name):
            raise Usage(f"a step cannot be named {node.name!r}", hint="without . / $ { }")
        if node.name in self.nodes:
            raise Usage(f"there are two steps named {node.name!r}")
        self.nodes[node.name] = node
        self._open += 1
        self._unlinked.append(node.name)

    def check(self) -> None:
        """Raise Usage for a parent that does not exist, and for steps that wait for each other."""
        for node in self.nodes.values():
            for parent in node.parents:
                if parent not in self.nodes:
                    raise Usage(
                        f"the step {node.name!r} comes after {parent!r}, which is no step",
                        hint=f"there are: {', '.join(self.nodes)}",
                    )
        left = {name: len(set(node.parents)) for name, node in self.nodes.items()}
        children: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for parent in dict.fromkeys(node.parents):
                children.setdefault(parent, []).append(node.name)
        free = [name for name, count in left.items() if not count]
        while free:
            name = free.pop()
            del left[name]
            for child in children.get(name, ()):
                left[child] -= 1
                if not left[child]:
                    free.append(child)
        if left:
            raise Usage(f"the steps wait for each other: {' → '.join(self._circle(left))}")

    def _circle(self, among: dict[str, int]) -> list[str]:
        """A way from a step back to itself; each of `among` has a parent that is one of them."""
        path = [next(iter(among))]
        while True:
            parent = next(p for p in self.nodes[path[-1]].parents if p in among)
            if parent in path:
                return [parent, *reversed(path[path.index(parent) :])]
            path.append(parent)

    @property
    def over(self) -> bool:
        return not self._open

    @property
    def failed(self) -> list[str]:
        """The steps that make the pipeline a failed one."""
        return [n.name for n in self.nodes.values() if n.spoils]

    def begin(self) -> Moves:
        """What follows from the steps that were added since; all of their parents are there."""
        moves = Moves()
        added, self._unlinked = self._unlinked, []
        for name in added:
            waits = 0
            for parent in dict.fromkeys(self.nodes[name].parents):
                node = self.nodes[parent]
                if not node.over:
                    self._children.setdefault(parent, []).append(name)
                    waits += 1
                elif not node.passes:
                    waits = -1
                    break
            self._left[name] = waits
            if waits == 0:
                moves.start.append(name)
        for name in added:
            if self._left[name] < 0:
                self._skip(name, moves)
        moves.start = [name for name in moves.start if not self.nodes[name].over]
        return moves

    def started(self, name: str) -> None:
        """A step was started, once more."""
        node = self.nodes[name]
        node.status = RUNNING
        node.tries += 1

    def ended(self, name: str, how: str) -> Moves:
        """A step has ended for good."""
        moves = Moves()
        node = self.nodes[name]
        if node.over:
            return moves
        node.status = how
        self._open -= 1
        children = self._children.pop(name, [])
        if node.passes:
            for child in children:
                self._left[child] -= 1
                if not self._left[child] and not self.nodes[child].over:
                    moves.start.append(child)
        else:
            for child in children:
                self._skip(child, moves)
        moves.stop = self.abort_on_failure and node.spoils
        return moves

    def _skip(self, name: str, moves: Moves) -> None:
        """A step and all that come after it will not run."""
        todo = [name]
        while todo:
            node = self.nodes[todo.pop()]
            if node.over:
                continue
            node.status = SKIPPED
            self._open -= 1
            moves.skipped.append(node.name)
            todo += self._children.pop(node.name, [])

    def stop(self) -> list[str]:
        """Nothing is started any more; the names of those that will not be."""
        moves = Moves()
        for node in self.nodes.values():
            if node.status == WAITING:
                self._skip(node.name, moves)
        return moves.skipped
