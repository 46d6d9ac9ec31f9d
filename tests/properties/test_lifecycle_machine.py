"""Whatever happens between any two requests, the claims on tasks stay in order."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clearflow.words.lifecycle import Exit
from tests.properties.server import RealServer, Server, TwinServer
from tests.properties.world import Actor, Machine, World

THOROUGH = bool(os.environ.get("CLEARFLOW_THOROUGH"))

numbers = st.integers(0, 7)
exits = st.sampled_from(
    [Exit(code=0), Exit(code=1), Exit(signal="SIGKILL"), Exit(signal="SIGTERM")]
)
lags = st.sampled_from([0.0, 1.5])


class Lifecycle(RuleBasedStateMachine):
    """Agents, movers, aborters and sweepers, request by request."""

    server: Server

    @initialize(
        tasks=st.integers(1, 3),
        agents=st.integers(1, 2),
        limit=st.sampled_from([None, None, 1, 2]),
        length=st.integers(0, 2),
        steps=st.integers(0, 9),
    )
    def begin(self, tasks: int, agents: int, limit: int | None, length: int, steps: int) -> None:
        self.world = World(self.server, tasks=tasks, agents=agents, limit=limit)
        for machine in self.world.machines:
            work = self.world.agent(machine, 0, Exit(code=0), length)
            actor = self.world.start(machine.name, work, machine)
            self.world.steps(actor, steps)

    # -- who acts ----------------------------------------------------------------------------

    def _machine(self, number: int) -> Machine:
        return self.world.machines[number % len(self.world.machines)]

    def _task(self, number: int) -> str:
        return self.world.tasks[number % len(self.world.tasks)]

    def _actor(self, number: int) -> Actor:
        acting = [a for a in self.world.actors if not a.done]
        return acting[number % len(acting)]

    def _somebody_acts(self) -> bool:
        return any(not a.done for a in self.world.actors)

    @rule(number=numbers, choice=st.integers(0, 1), ended=exits, length=st.integers(0, 2), lag=lags)
    def an_agent_looks_for_a_task(
        self, number: int, choice: int, ended: Exit, length: int, lag: float
    ) -> None:
        machine = self._machine(number)
        if machine.alive:
            work = self.world.agent(machine, choice, ended, length)
            self.world.start(machine.name, work, machine, lag)

    @rule(choice=numbers, index=numbers)
    def somebody_moves_a_task(self, choice: int, index: int) -> None:
        self.world.start("mover", self.world.mover(choice, index))

    @rule(
        number=numbers,
        what=st.sampled_from([World.aborter, World.canceller, World.drafter, World.queuer]),
    )
    def somebody_interferes(self, number: int, what: Any) -> None:
        self.world.start(what.__name__, what(self.world, self._task(number)))

    @rule(lag=lags, after=st.sampled_from([0.0, 31.0]), steps=st.integers(0, 12))
    def a_sweeper_looks_for_lost_tasks(self, lag: float, after: float, steps: int) -> None:
        self.world.pass_time(after)
        sweeper = self.world.start("sweeper", self.world.sweeper, late=lag)
        self.world.steps(sweeper, steps)

    @rule(number=numbers)
    def a_machine_looks_for_dead_supervisors(self, number: int) -> None:
        machine = self._machine(number)
        if machine.alive:
            self.world.start("cleaner", self.world.forgotten(machine), machine)

    # -- what happens ------------------------------------------------------------------------

    @precondition(_somebody_acts)
    @rule(number=numbers, times=st.integers(1, 6))
    def requests_arrive(self, number: int, times: int) -> None:
        actor = self._actor(number)
        self.world.steps(actor, times)

    @precondition(_somebody_acts)
    @rule(number=numbers)
    def somebody_comes_to_an_end(self, number: int) -> None:
        actor = self._actor(number)
        if actor.machine is None or not actor.machine.cut:
            self.world.steps(actor, 40)

    @precondition(_somebody_acts)
    @rule(number=numbers, verdict=st.sampled_from(["unheard", "slow"]))
    def an_answer_is_lost_or_slow(self, number: int, verdict: str) -> None:
        self.world.step(self._actor(number), verdict)

    @precondition(_somebody_acts)
    @rule(number=numbers)
    def a_supervisor_or_a_mover_is_killed(self, number: int) -> None:
        self.world.kill(self._actor(number))

    @precondition(lambda self: self.world.late)
    @rule()
    def a_request_of_a_dead_arrives(self) -> None:
        self.world.arrives_late(self.world.late[-1])

    @rule(number=numbers)
    def a_machine_dies_or_comes_back(self, number: int) -> None:
        machine = self._machine(number)
        if machine.alive:
            self.world.kill_machine(machine)
        else:
            self.world.revive(machine)

    @rule(number=numbers)
    def a_machine_is_cut_off_or_back(self, number: int) -> None:
        machine = self._machine(number)
        machine.cut = not machine.cut

    @precondition(_somebody_acts)
    @rule(heard=st.integers(0, 15))
    def the_server_is_restarted(self, heard: int) -> None:
        self.world.restart_server(heard)

    @rule(seconds=st.sampled_from([0.3, 4.0, 11.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if not self.world.broken:
                self.world.settle()
        except AssertionError:
            self.world.broken = True
            raise
        finally:
            if self.world.broken:
                note("\n".join(self.world.log))
            self.world.close()


def profile(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples * (20 if THOROUGH else 1),
        stateful_step_count=steps * (2 if THOROUGH else 1),
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=set(Phase) - {Phase.explain},
    )


def check(server: Server, rules: settings) -> None:
    machine: Any = type("Lifecycle", (Lifecycle,), {"server": server})
    run_state_machine_as_test(machine, settings=rules)


def test_on_the_twin(twin: TwinServer) -> None:
    check(twin, profile(200, 40))


def test_on_prefect(real: RealServer) -> None:
    check(real, profile(8, 25))
