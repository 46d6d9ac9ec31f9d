"""An agent's Docker: looked at before it takes tasks, and swept of what its last life has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from clearflow.errors import ClearflowError
from clearflow.runtimes import clearing
from clearflow.runtimes.docker import Engine, NoDocker
from clearflow.settings import settings
from clearflow.words import containers
from clearflow.words.containers import Policy

_AGAIN = 2.0  # seconds between two looks at an Engine that does not answer


async def ready(policy: Policy, say: Callable[[str], None]) -> None:
    """Make sure of the Engine, the agent's own arguments and its default image.

    Raises ClearflowError in one line when a task could not start.
    """
    containers.options(policy.arguments, own={})

    def look() -> None:
        engine = Engine()
        try:
            engine.image(policy.image, say)
        finally:
            engine.close()

    try:
        await asyncio.to_thread(look)
    except NoDocker:
        raise
    except ClearflowError as error:
        raise ClearflowError(
            error.message, hint="name an image: `clearflow agent start --docker IMAGE`"
        ) from None


class Containers:
    """The Docker of one agent; of one without Docker, nothing."""

    def __init__(self, agent: str, policy: Policy | None, say: Callable[[str], None]) -> None:
        self._agent, self._policy, self._say = agent, policy, say
        self._engine: Engine | None = None

    async def answer(self) -> None:
        """Return when the Engine answers; when it does not, that is said once."""
        said = False
        while self._policy is not None:
            try:
                await asyncio.to_thread(self._ping)
            except NoDocker as error:
                if not said:
                    self._say(f"{error.message}; I take no tasks until it does")
                said = True
                await asyncio.sleep(_AGAIN)
            else:
                if said:
                    self._say("Docker answers again")
                return

    def _ping(self) -> None:
        if self._engine is None:
            self._engine = Engine(timeout=10)
        self._engine.ping()

    async def sweep(self, alive: Collection[str]) -> None:
        """Remove the containers of this agent whose claims are not among those alive."""
        if self._policy is None:
            return
        for claim in await clearing.clear_left(self._agent, settings().home_path, alive):
            self._say(f"removed a container that was left by the claim {claim}")
