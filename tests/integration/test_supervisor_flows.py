"""What Prefect offers to flows works when our agent runs them."""

import pytest

from clearflow._prefect import runs
from clearflow.words import lifecycle
from tests.support.waiting import wait_until_async


async def end(ask, flow, parameters=None, **job_variables):
    """Run a flow to its end; its run."""
    run_id = await ask.enqueue(f"features.py:{flow}", "q", parameters, **job_variables)
    return await ask.ended(run_id)


async def completed(ask, flow, parameters=None, **job_variables):
    run = await end(ask, flow, parameters, **job_variables)
    assert run.state.type == "COMPLETED", await ask.report(run.id)
    return run


async def test_retries_happen_in_the_process(shared, tmp_path):
    run = await completed(shared, "succeeds_at_last", {"folder": str(tmp_path)})
    assert run.run_count == 3
    lines = await shared.console(run.id, "console")
    assert [x for x in lines if x.startswith("try")] == ["try 1", "try 2", "try 3"]
    tokens = {s.note.claim for s in await shared.history(run.id) if s.note.agent}
    assert len(tokens) == 1, "one claim for all tries"
    assert run.note.attempt == 1


async def test_a_flow_that_waits_to_retry_keeps_its_agent_and_can_be_aborted(shared, tmp_path):
    run_id = await shared.enqueue("features.py:waits_to_retry", "q", {"folder": str(tmp_path)})
    run = await shared.until(run_id, "retrying")
    assert run.state.name == "AwaitingRetry"
    write = lifecycle.abort(run, "ada", shared.api.clock.now())
    assert write is not None
    await runs.propose(shared.api, run_id, write)
    run = await shared.ended(run_id)
    assert run.state.type == "CANCELLED"
    assert (tmp_path / "starts").read_text() == "x"


async def test_subflows_have_runs_of_their_own(shared):
    run = await completed(shared, "parent_flow")
    found = await shared.api.post(
        "/flow_runs/filter",
        {"flow_runs": {"parent_flow_run_id": {"any_": [run.id]}}},
    )
    assert [r["state"]["type"] for r in found] == ["COMPLETED"] * 3
    lines = await shared.console(run.id, "console")
    assert [x for x in lines if x.startswith("child")] == ["child 0", "child 1", "child 2"]

    async def told() -> list[str]:
        return [line for r in found for line in await shared.console(r["id"])]

    assert await wait_until_async(told, 30, what="the subflows' own lines")


async def test_a_subflow_may_fail_alone(shared):
    await completed(shared, "copes_with_its_child")


@pytest.mark.parametrize("flow", ["in_threads", "in_processes", "asynchronous"])
async def test_task_runners_and_coroutines(shared, flow):
    run = await completed(shared, flow)
    body = {"flow_runs": {"id": {"any_": [run.id]}}}

    # Prefect records task runs from their events, some time after they have ended.
    async def recorded() -> bool:
        found = await shared.api.post("/task_runs/filter", body)
        return bool(found) and {t["state_type"] for t in found} == {"COMPLETED"}

    await wait_until_async(recorded, 30, what="the task runs to be recorded")


@pytest.mark.parametrize("flow", ["generates", "generates_async"])
async def test_generators_run_to_their_end(shared, flow):
    run = await completed(shared, flow)
    lines = await shared.console(run.id, "console")
    assert [x for x in lines if x.startswith("yields")] == ["yields 0", "yields 1", "yields 2"]


@pytest.mark.parametrize(
    ("fail", "hooks"), [(False, ["Running", "Completed"]), (True, ["Running", "Failed"])]
)
async def test_hooks_run(shared, fail, hooks):
    run = await end(shared, "with_hooks", {"fail": fail})
    lines = await shared.console(run.id, "console")
    assert [x for x in lines if x.startswith("hook ")] == [f"hook {name}" for name in hooks]


async def test_a_timeout_of_the_flow_is_a_failure(shared):
    run = await end(shared, "takes_too_long")
    assert (run.state.type, run.state.name) == ("FAILED", "TimedOut")


async def test_a_paused_flow_goes_on_when_it_is_resumed(shared):
    run_id = await shared.enqueue("features.py:pauses", "q")
    await shared.until(run_id, "paused")
    await shared.api.post(f"/flow_runs/{run_id}/resume", {})
    run = await shared.ended(run_id)
    assert run.state.type == "COMPLETED", await shared.report(run_id)
    lines = await shared.console(run_id, "console")
    assert [x for x in lines if x in {"before", "after"}] == ["before", "after"]


async def test_a_paused_flow_can_be_aborted(shared):
    run_id = await shared.enqueue("features.py:pauses", "q")
    run = await shared.until(run_id, "paused")
    write = lifecycle.abort(run, "ada", shared.api.clock.now())
    assert write is not None
    await runs.propose(shared.api, run_id, write)
    run = await shared.ended(run_id)
    assert run.state.type == "CANCELLED"


async def test_a_flow_that_asks_for_input_gets_it(shared):
    run_id = await shared.enqueue("features.py:asks_for_input", "q")
    await shared.until(run_id, "paused")

    # The flow says what it asks for just after it has paused.
    async def answered() -> bool:
        body = {"run_input": {"value": "forty-two"}}
        answer = await shared.api.post(f"/flow_runs/{run_id}/resume", body)
        return answer["status"] == "ACCEPT"

    await wait_until_async(answered, 30, what="the answer to be accepted")
    run = await shared.ended(run_id)
    assert run.state.type == "COMPLETED"
    assert "answer forty-two" in await shared.console(run_id, "console")


async def test_a_suspended_flow_frees_its_slot_and_comes_back(shared, tmp_path):
    run_id = await shared.enqueue("features.py:suspends", "q", {"folder": str(tmp_path)})
    run = await shared.until(run_id, "paused")
    assert run.state.name == "Suspended"
    await shared.idle()
    await shared.api.post(f"/flow_runs/{run_id}/resume", {})
    run = await shared.ended(run_id)
    assert run.state.type == "COMPLETED", await shared.report(run_id)
    lines = await shared.console(run_id, "console")
    assert "resumed at start 2" in lines, await shared.report(run_id)


async def test_a_flow_suspended_from_outside_ends_at_its_next_step_and_comes_back(shared, tmp_path):
    run_id = await shared.enqueue("features.py:many_steps", "q", {"folder": str(tmp_path)})
    await shared.until(run_id, "running")
    await wait_until_async(lambda: exists(tmp_path / "starts"), what="its first step")
    state = {
        "type": "PAUSED",
        "name": "Suspended",
        "state_details": {
            "pause_reschedule": True,
            "pause_timeout": (shared.api.clock.now().replace(year=2100)).isoformat(),
        },
    }
    said = await shared.api.post(f"/flow_runs/{run_id}/set_state", {"state": state})
    assert said["status"] == "ACCEPT", said
    await shared.idle()
    assert await shared.status(run_id) == "paused"
    (tmp_path / "enough").touch()
    await shared.api.post(f"/flow_runs/{run_id}/resume", {})
    run = await shared.ended(run_id)
    assert run.state.type == "COMPLETED", await shared.report(run_id)
    assert (tmp_path / "starts").read_text() == "xx"


async def exists(path):
    return path.exists()


async def test_a_deployment_deleted_while_its_task_waits_takes_the_task_with_it(site, ask):
    run_id = await ask.enqueue("endings.py:completes", "q")
    deployment = (await ask.run(run_id)).deployment_id
    await ask.api.delete(f"/deployments/{deployment}")
    site.agent("q")
    await ask.ended(await ask.enqueue("endings.py:completes", "q"))
    found = await ask.api.post("/flow_runs/count", {"flow_runs": {"id": {"any_": [run_id]}}})
    assert found == 0


async def test_a_deployment_deleted_while_its_task_runs_changes_nothing_for_it(shared, tmp_path):
    run_id = await shared.enqueue("features.py:many_steps", "q", {"folder": str(tmp_path)})
    await shared.until(run_id, "running")
    deployment = (await shared.run(run_id)).deployment_id
    await shared.api.delete(f"/deployments/{deployment}")
    (tmp_path / "enough").touch()
    run = await shared.ended(run_id)
    assert run.state.type == "COMPLETED"


async def test_a_run_deleted_while_it_runs_is_ended(shared, tmp_path):
    run_id = await shared.enqueue("features.py:many_steps", "q", {"folder": str(tmp_path)})
    await shared.until(run_id, "running")
    await runs.delete(shared.api, run_id)
    await shared.idle()
    run = await completed(shared, "in_threads")
    assert run.state.type == "COMPLETED"
