"""Requests that Prefect's flow engine makes on the way to a flow's first line, and need not.

Each is a few milliseconds of the server and of whoever waits for it. What the engine wants to
know is known already, or somebody else asks for it meanwhile; what it wants to write is written
while the flow runs. All replaced names are public ones of Prefect's client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.actions import FlowRunUpdate
from prefect.client.schemas.objects import FlowRun, ServerDefaultResultStorage
from prefect.client.schemas.responses import SetStateStatus

Update = Callable[[dict[str, Any]], None]
Storage = Callable[[], dict[str, Any]]


def replace(owner: Any, name: str, new: Any) -> None:
    """Put something else in the place of a name of Prefect's, which has to be there."""
    getattr(owner, name)
    setattr(owner, name, new)


def spare_requests(run_id: str, update: Update, storage: Storage) -> None:
    """Have the engine of this run ask the server for less.

    * Whether server and client fit: the agent has made sure.
    * The default result storage, asked for twice: `storage()` tells it, once.
    * The flow's version and policy, written before it starts: `update(changes)` has somebody
      write them before the next state after Running.
    * The run, read again after it was set Running: what that changes is known.
    """
    known = _Known(run_id)
    known.install()
    _Updates(run_id, update, known).install()
    _install_storage(storage)

    def nothing(self: Any) -> None:
        return

    async def nothing_async(self: Any) -> None:
        return

    replace(SyncPrefectClient, "raise_for_api_version_mismatch", nothing)
    replace(PrefectClient, "raise_for_api_version_mismatch", nothing_async)


class _Known:
    """The run as the server has it right after it was set Running, known without asking."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._last: FlowRun | None = None  # as last read
        self._next: FlowRun | None = None  # what the next read would find
        self.version: str | None = None

    def install(self) -> None:
        read, read_async = SyncPrefectClient.read_flow_run, PrefectClient.read_flow_run
        write, write_async = SyncPrefectClient.set_flow_run_state, PrefectClient.set_flow_run_state

        def read_flow_run(client: Any, flow_run_id: Any) -> FlowRun:
            return self._take(flow_run_id) or self._keep(read(client, flow_run_id))

        async def read_flow_run_async(client: Any, flow_run_id: Any) -> FlowRun:
            return self._take(flow_run_id) or self._keep(await read_async(client, flow_run_id))

        def set_state(client: Any, flow_run_id: Any, state: Any, force: bool = False) -> Any:
            self._next = None
            return self._written(flow_run_id, write(client, flow_run_id, state, force=force))

        async def set_state_async(
            client: Any, flow_run_id: Any, state: Any, force: bool = False
        ) -> Any:
            self._next = None
            result = await write_async(client, flow_run_id, state, force=force)
            return self._written(flow_run_id, result)

        replace(SyncPrefectClient, "read_flow_run", read_flow_run)
        replace(PrefectClient, "read_flow_run", read_flow_run_async)
        replace(SyncPrefectClient, "set_flow_run_state", set_state)
        replace(PrefectClient, "set_flow_run_state", set_state_async)

    def _take(self, flow_run_id: Any) -> FlowRun | None:
        if str(flow_run_id) != self._run_id:
            return None
        known, self._next = self._next, None
        return known

    def _keep(self, run: FlowRun) -> FlowRun:
        if str(run.id) == self._run_id:
            self._last = run.model_copy()
        return run

    def _written(self, flow_run_id: Any, result: Any) -> Any:
        if str(flow_run_id) != self._run_id:
            return result
        last, self._last = self._last, None
        before = last.state if last is not None else None
        accepted = result.status == SetStateStatus.ACCEPT and result.state is not None
        if last is None or before is None or not accepted:
            return result
        if before.is_pending() and result.state.is_running():
            changes = {**_after_start(last, result.state), "flow_version": self.version}
            self._next = last.model_copy(update=changes)
        return result


def _after_start(run: FlowRun, state: Any) -> dict[str, Any]:
    """What the server changes in a run that goes from Pending to Running."""
    return {
        "state": state,
        "state_id": state.id,
        "state_type": state.type,
        "state_name": state.name,
        "start_time": run.start_time or state.timestamp,
        "run_count": run.run_count + (0 if run.empirical_policy.resuming else 1),
        "empirical_policy": run.empirical_policy.model_copy(update={"resuming": False}),
    }


class _Updates:
    """The engine's first update of its run, left to somebody else."""

    def __init__(self, run_id: str, update: Update, known: _Known) -> None:
        self._run_id, self._update, self._known = run_id, update, known
        self._done = False

    def install(self) -> None:
        update, update_async = SyncPrefectClient.update_flow_run, PrefectClient.update_flow_run

        def update_flow_run(client: Any, flow_run_id: Any, *args: Any, **changes: Any) -> Any:
            if not args and self._left(flow_run_id, changes):
                return None
            return update(client, flow_run_id, *args, **changes)

        async def update_flow_run_async(
            client: Any, flow_run_id: Any, *args: Any, **changes: Any
        ) -> Any:
            if not args and self._left(flow_run_id, changes):
                return None
            return await update_async(client, flow_run_id, *args, **changes)

        replace(SyncPrefectClient, "update_flow_run", update_flow_run)
        replace(PrefectClient, "update_flow_run", update_flow_run_async)

    def _left(self, flow_run_id: Any, changes: dict[str, Any]) -> bool:
        engines = set(changes) == {"flow_version", "empirical_policy"}
        if self._done or not engines or str(flow_run_id) != self._run_id:
            return False
        delay = changes["empirical_policy"].retry_delay
        if any(isinstance(d, float) for d in (delay if isinstance(delay, list) else [delay])):
            return False  # the server refuses fractions, and the flow should fail by it
        self._done = True
        self._known.version = changes["flow_version"]
        known = {k: v for k, v in changes.items() if v is not None}
        self._update(FlowRunUpdate(**known).model_dump(mode="json", exclude_unset=True))
        return True


def _install_storage(storage: Storage) -> None:
    told: list[ServerDefaultResultStorage] = []

    def ask() -> ServerDefaultResultStorage:
        if not told:
            told.append(ServerDefaultResultStorage.model_validate(storage()))
        return told[0]

    def read(client: Any) -> ServerDefaultResultStorage:
        return ask()

    async def read_async(client: Any) -> ServerDefaultResultStorage:
        return told[0] if told else await asyncio.to_thread(ask)

    replace(SyncPrefectClient, "read_server_default_result_storage", read)
    replace(PrefectClient, "read_server_default_result_storage", read_async)
