"""What a run of chaos is to be: how much of it, and which fault falls when upon whom."""

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

HEARTBEAT, SILENCE, OUTAGE_GRACE = 1.0, 8.0, 8.0

SETTINGS = {
    "CLEARFLOW_HEARTBEAT": str(HEARTBEAT),
    "CLEARFLOW_SILENCE": str(SILENCE),
    # Longer than the longest pause between two tries to reach a server that is away.
    "CLEARFLOW_OUTAGE_GRACE": str(OUTAGE_GRACE),
    "CLEARFLOW_GRACE": "1",
    "CLEARFLOW_IDLE_ASK": "3",
    # A task that is lost again and again must still end by its own means.
    "CLEARFLOW_MAX_ATTEMPTS": "100",
}

# The processes that are killed, and what is done to the connections of one agent.
KILLED = {"supervisor": "cf-supervisor", "launcher": "cf-launcher", "task": "cf-task"}
CUTS = ("hold", "hole", "long hold", "long hole")

WEIGHTS: Mapping[str, float] = {
    "supervisor": 4,
    "task": 2,
    "agent": 1.5,
    "launcher": 1.5,
    "reset": 4,
    "hold": 2,
    "hole": 2,
    "server": 0.5,
}
# With cuts longer than the silence, which is when a machine is declared lost that is not.
CUT_OFF: Mapping[str, float] = {
    "long hold": 2,
    "long hole": 3,
    "reset": 1,
    "supervisor": 1,
    "agent": 1,
    "launcher": 0.5,
}
# Nothing but what the fences are there for.
ONLY_CUTS: Mapping[str, float] = {"long hole": 1}


@dataclass(frozen=True)
class Plan:
    """One run. `exclusive`: tasks that must not overlap even while their machine is cut off.

    `docker`: the scripts run in containers.
    """

    seed: int
    tasks: int = 40
    agents: int = 4
    slots: int = 2
    postgres: bool = False
    exclusive: bool = False
    fence: bool = True
    scripts: bool = False
    docker: bool = False
    minutes: float = 10.0

    @property
    def weights(self) -> Mapping[str, float]:
        if not self.fence:
            return ONLY_CUTS
        return CUT_OFF if self.exclusive else WEIGHTS

    def seconds(self) -> Sequence[float]:
        """How long each task takes. One that is to see its machine declared lost takes longer."""
        dice = random.Random(f"{self.seed} seconds")
        least, most = (6.0, 12.0) if self.exclusive or not self.fence else (0.5, 3.0)
        return [dice.uniform(least, most) for _ in range(self.tasks)]

    def faults(self) -> Iterator["Fault"]:
        """Without end: what the dice say does not depend on what came of the throws before."""
        dice = random.Random(f"{self.seed} faults")
        kinds, weights = list(self.weights), list(self.weights.values())
        least, most = (1.0, 3.0) if self.exclusive or not self.fence else (0.3, 1.0)
        while True:
            kind = dice.choices(kinds, weights)[0]
            short = dice.uniform(0.2, SILENCE / 3)
            long = dice.uniform(SILENCE * 1.2, SILENCE * 2)
            yield Fault(
                after=dice.uniform(least, most),
                kind=kind,
                agent=dice.randrange(self.agents),
                seconds=long if kind.startswith("long") else short,
                which=dice.random(),
            )


@dataclass(frozen=True)
class Fault:
    """One throw: so long after the one before, this, to that agent; `which` of its processes."""

    after: float
    kind: str
    agent: int
    seconds: float
    which: float


def arguments() -> Plan:
    """The plan that the command line asks for."""
    parser = argparse.ArgumentParser(description="Chaos over real agents, with a referee.")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=10.0, help="chaos ends then at the latest")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument(
        "--exclusive", action="store_true", help="exclusive tasks, and cuts beyond the silence"
    )
    parser.add_argument("--scripts", action="store_true", help="scripts instead of flows")
    parser.add_argument("--docker", action="store_true", help="scripts in containers, as root")
    parser.add_argument("--no-fence", dest="fence", action="store_false")
    given = vars(parser.parse_args())
    return Plan(**{**given, "scripts": given["scripts"] or given["docker"]})
