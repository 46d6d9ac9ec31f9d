"""The referee: what the tasks' own beats and the server's states say about a run of chaos.

Pure. A task beats into a file that clearflow knows nothing of, one file for each process that
runs it, so that what really ran is held against what the server says about it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from clearflow.words.models import COMPLETED, State

TOLERANCE = 0.1
"""Seconds: two processes on a busy machine may see their last and first beat this much apart."""


@dataclass(frozen=True)
class Stretch:
    """What one process has beaten for one task: from when to when, and whether it got through.

    Times are seconds since the epoch; `beats` counts them.
    """

    task: str
    claim: str
    pid: int
    first: float
    last: float
    beats: int
    done: bool

    def __str__(self) -> str:
        end = "to its end" if self.done else "broken off"
        return f"claim {self.claim} (pid {self.pid}) {self.first:.3f}-{self.last:.3f} {end}"


@dataclass(frozen=True)
class Violation:
    """Something that must not be: its kind in a word, the task, and what was seen."""

    kind: str
    task: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.task}: {self.what}"


def file_name(task: str, claim: str, pid: int) -> str:
    return f"{task}.{claim}.{pid}.beats"


def read(folder: Path) -> list[Stretch]:
    """The stretches of all beat files. A line that was broken off by a kill is left out."""
    found = []
    for file in sorted(folder.glob("*.beats")):
        task, claim, pid, _ = file.name.split(".")
        if stretch := parse(task, claim, int(pid), file.read_text()):
            found.append(stretch)
    return found


def parse(task: str, claim: str, pid: int, text: str) -> Stretch | None:
    """A stretch from lines `<mark> <time>`; None for a process that never got to beat."""
    whole = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
    if not whole:
        return None
    times = [float(at) for _, at in whole]
    done = whole[-1][0] == "end"
    return Stretch(task, claim, pid, times[0], times[-1], len(times), done)


def judge(
    tasks: Iterable[str],
    stretches: Iterable[Stretch],
    histories: Mapping[str, Sequence[State]],
    tolerance: float = TOLERANCE,
) -> list[Violation]:
    """Everything that must not be. `histories` holds each task's states, oldest first."""
    by_task: dict[str, list[Stretch]] = defaultdict(list)
    for stretch in stretches:
        by_task[stretch.task].append(stretch)
    found: list[Violation] = []
    for task in tasks:
        mine, states = by_task[task], histories.get(task, ())
        found += _overlaps(task, mine, tolerance)
        found += _loss(task, mine, states)
        found += _double_end(task, states)
        found += _after_the_end(task, mine, states, tolerance)
    return found


def _overlaps(task: str, stretches: Sequence[Stretch], tolerance: float) -> list[Violation]:
    """A process that was frozen in between has not ended: its whole stretch counts."""
    found = []
    for one, other in combinations(sorted(stretches, key=lambda s: s.first), 2):
        both = min(one.last, other.last) - max(one.first, other.first)
        if both > tolerance:
            found.append(Violation("overlap", task, f"{both:.2f} s: {one} and {other}"))
    return found


def _loss(task: str, stretches: Sequence[Stretch], states: Sequence[State]) -> list[Violation]:
    if not states:
        return [Violation("loss", task, "the server does not know it")]
    end = states[-1]
    if not end.final:
        return [Violation("loss", task, f"never ended: {end.name}: {end.message}")]
    done = {s.claim for s in stretches if s.done}
    if end.type == COMPLETED and end.note.claim not in done:
        return [Violation("loss", task, f"completed without its last beat: {end.message}")]
    return []


def _double_end(task: str, states: Sequence[State]) -> list[Violation]:
    """A take of a task that has ended is undone by writing the same end again: that is one."""
    ends = Counter((s.type, s.message) for s in states if s.final)
    if len(ends) <= 1:
        return []
    return [Violation("double end", task, "; ".join(f"{t}: {m}" for t, m in ends))]


def _after_the_end(
    task: str, stretches: Sequence[Stretch], states: Sequence[State], tolerance: float
) -> list[Violation]:
    """Server and tasks share a machine and so its clock."""
    end = next((s.at.timestamp() for s in states if s.final and s.at is not None), None)
    if end is None:
        return []
    return [
        Violation("beat after the end", task, f"{s.last - end:.2f} s after it: {s}")
        for s in stretches
        if s.last > end + tolerance
    ]


def attempts(histories: Mapping[str, Sequence[State]]) -> Counter[int]:
    """How many tasks ended in which attempt."""
    return Counter(states[-1].note.attempt for states in histories.values() if states)


def starts(stretches: Iterable[Stretch]) -> Counter[int]:
    """How many tasks were really started how often."""
    return Counter(Counter(s.task for s in stretches).values())
