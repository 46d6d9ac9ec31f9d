"""Takes the fences away in every process that starts with this folder on its path.

The referee has to find out: a run of chaos in which nothing is fenced must not pass.
"""

import sys

if any("clearflow" in word for word in sys.orig_argv):
    from datetime import timedelta
    from typing import Any

    from clearflow._prefect import claims, runs, settling
    from clearflow.supervisor import guard
    from clearflow.words.lifecycle import Standing

    async def everybody(*_: Any, **__: Any) -> bool:
        return True

    async def nothing(*_: Any, **__: Any) -> None:
        return None

    async def mine(*_: Any, **__: Any) -> Any:
        return Standing.MINE, None

    async def blind(api: Any, run_id: str, write: Any, token: str) -> Any:
        state = (await runs.read(api, run_id)).state
        if state is not None and state.final:
            return claims._Look(state=state)
        return claims._Look(write, since=api.clock.now() - timedelta(days=1))

    settling.settle = claims.settle = settling._settle = everybody
    claims.standing = claims.entitled = mine
    claims._look = blind
    guard.Guard.leased = lambda self: True  # type: ignore[method-assign]
    guard.Guard._freeze = nothing  # type: ignore[method-assign]
