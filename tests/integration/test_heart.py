"""An agent's heartbeat: as often as its tasks need it, and seldom without any."""

from pathlib import Path

from tests.support.agents import LOSING, Client, Site

SCRIPTS = True


async def test_a_task_that_comes_right_after_a_heartbeat_is_not_declared_lost(
    site: Site, ask: Client, tmp_path: Path
) -> None:
    """The agent has just beaten, and would not have done so again for a minute."""
    env = LOSING | {"CLEARFLOW_IDLE_ASK": "60"}
    site.agent("q", env=env)
    site.agent("another", env=env)  # it sweeps
    run_id = await ask.enqueue_script("counts", "q", {"folder": str(tmp_path), "seconds": 12})

    run = await ask.ended(run_id)

    assert (run.status(ask.api.clock.now()), run.note.attempt) == ("completed", 1)
