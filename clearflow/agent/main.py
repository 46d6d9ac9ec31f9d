"""Start an agent in this process, and end it by signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable
from typing import IO

from clearflow import agents
from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.agent import containers
from clearflow.agent.loop import Agent
from clearflow.agent.options import AgentOptions
from clearflow.agents import Wish
from clearflow.errors import NotFound, Refused
from clearflow.runtimes import rundir
from clearflow.settings import settings
from clearflow.words.names import agent_name

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(options: AgentOptions, say: Callable[[str], None] = _print) -> None:
    """Run an agent until it is asked to stop.

    Ctrl-C or SIGTERM drains: no further tasks, exit when the running ones have ended, at the
    latest after `CLEARFLOW_DRAIN` seconds; a second one gives the running tasks back and exits.
    SIGHUP exits at once and leaves the tasks running for the next agent of this name.
    """
    asyncio.run(serve(options, say))
    # Python gives its signals back before it is gone: a second one would kill what has ended well.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


async def serve(options: AgentOptions, say: Callable[[str], None] = _print) -> None:
    """The agent as a coroutine, without signals of its own when they are taken already."""
    machine = options.machine()
    if options.containers is not None:
        await containers.ready(options.containers, say)
    name, lock = _name(options)
    where = connection()
    with lock:
        # First with little patience: a wrong address should be told at once.
        async with Api(where, give_up_after=5.0) as api:
            await Agent(api, options, name, machine, say).taker.prepare()
            await _alone(api, name)
        async with Api(where, give_up_after=None) as api:
            agent = Agent(api, options, name, machine, say)
            _take_signals(agent)
            await agent.run()
    say(f"agent {name} has stopped")


def _name(options: AgentOptions) -> tuple[str, IO[bytes]]:
    """The asked name, or the first `host:n` that no other agent of this machine has."""
    home = settings().home_path
    if options.name is not None:
        return options.name, rundir.lock_agent(home, options.name)
    number = 0
    while True:
        name = agent_name(number)
        try:
            return name, rundir.lock_agent(home, name)
        except Refused:
            number += 1


async def _alone(api: Api, name: str) -> None:
    """Raises Refused when an agent of this name lives on another machine.

    Each would take the other's tasks for what it left behind when it was last killed.
    """
    with contextlib.suppress(NotFound):
        other = await agents.read(api, name)
        if other.online and other.record.host != socket.gethostname():
            raise Refused(
                f"an agent named {name!r} is running on {other.record.host}",
                hint="give this one another name with --name, or wait until that one is offline",
            )


def _take_signals(agent: Agent) -> None:
    """Until this process is gone: a second signal may come when the agent has ended just now."""
    loop = asyncio.get_running_loop()
    asked = 0

    def ask_to_stop() -> None:
        nonlocal asked
        asked += 1
        agent.wish(Wish.DRAIN if asked == 1 else Wish.STOP)

    def later(what: Callable[[], None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(what)

    *asking, hanging_up = _SIGNALS
    for number in asking:
        signal.signal(number, lambda *_: later(ask_to_stop))
    signal.signal(hanging_up, lambda *_: later(agent.leave))
