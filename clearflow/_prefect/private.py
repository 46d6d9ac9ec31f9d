"""Every private name of Prefect that clearflow touches, and every change to how it behaves.

`tests/unit/test_private_contract.py` names each of them, so that a new Prefect that moved one is
found by a test and not by a user.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import importlib
import json
import ssl
import sys
import threading
import zoneinfo
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from prefect import flow_engine
from prefect._flow_run_suspension import mark_flow_run_suspension_requested
from prefect.client import orchestration
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas import State
from prefect.exceptions import Abort, TerminationSignal
from prefect.states import Cancelling

from clearflow._prefect.lean import replace
from clearflow.words.notes import Verdict

Ask = Callable[[str, str, str], Verdict]
Told = Callable[[str, str], None]


def fence(
    run_id: str, ask: Ask, told: Told, sign: Callable[[str], str], settled: Callable[[], object]
) -> None:
    """Have the flow engine ask before it writes a state of this run, and tell what it wrote.

    Only the holder of a claim may record how a task ended. The engine writes states itself, so
    it is asked to wait for the word of the supervisor, which holds the claim: `ask(type, name,
    message)`. Subflows have runs of their own and are not asked for. When the task is being
    aborted nothing is written, and the flow's cancellation hooks run. States that the flow itself
    writes (it pauses, or goes on) only get their message signed, by `sign(message)`, once
    `settled()` returns: the server keeps what it knows of a pause where the engine writes its own.
    """
    sync_set = flow_engine.FlowRunEngine.set_state
    async_set = flow_engine.AsyncFlowRunEngine.set_state

    def ours(engine: Any) -> bool:
        return engine.flow_run is not None and str(engine.flow_run.id) == run_id

    def asked(state: State[Any]) -> Verdict:
        verdict = ask(state.type.value, state.name or "", _reason(state))
        if verdict.aborting:
            return verdict
        if not verdict.go:
            raise Abort("this claim on the task has ended")
        state.message = verdict.message
        return verdict

    def set_state(engine: Any, state: State[Any], force: bool = False) -> State[Any]:
        if not ours(engine) or engine.short_circuit:
            return sync_set(engine, state, force=force)
        verdict = asked(state)
        if verdict.aborting:
            cancelling = _stand_in(engine, verdict)
            engine.call_hooks(cancelling)
            return cancelling
        result = sync_set(engine, state, force=force)
        told(result.type.value, result.name or "")
        return result

    async def set_state_async(engine: Any, state: State[Any], force: bool = False) -> State[Any]:
        if not ours(engine) or engine.short_circuit:
            return await async_set(engine, state, force=force)
        verdict = await asyncio.to_thread(asked, state)
        if verdict.aborting:
            cancelling = _stand_in(engine, verdict)
            await engine.call_hooks(cancelling)
            return cancelling
        result = await async_set(engine, state, force=force)
        told(result.type.value, result.name or "")
        return result

    _sign_states(run_id, sign, settled)
    replace(flow_engine.FlowRunEngine, "set_state", set_state)
    replace(flow_engine.AsyncFlowRunEngine, "set_state", set_state_async)


def _reason(state: State[Any]) -> str:
    """The message of a state; Prefect leaves out which exit code or signal ended a flow."""
    match state.data:
        case SystemExit(code=int(code)):
            return f"exit code {code}"
        case SystemExit(code=None):
            return "exit code 0"
        case SystemExit(code=words):
            return f"exit code 1: {words}"
        case TerminationSignal():
            return "killed by SIGTERM"
    return state.message or ""


def _sign_states(run_id: str, sign: Callable[[str], str], settled: Callable[[], object]) -> None:
    sync_set = SyncPrefectClient.set_flow_run_state
    async_set = PrefectClient.set_flow_run_state

    def signed(flow_run_id: Any, state: State[Any]) -> None:
        if str(flow_run_id) == run_id:
            state.message = sign(state.message or "")
            if state.is_paused():
                settled()

    def set_state(self: Any, flow_run_id: Any, state: State[Any], force: bool = False) -> Any:
        signed(flow_run_id, state)
        return sync_set(self, flow_run_id, state, force=force)

    async def set_state_async(
        self: Any, flow_run_id: Any, state: State[Any], force: bool = False
    ) -> Any:
        await asyncio.to_thread(signed, flow_run_id, state)
        return await async_set(self, flow_run_id, state, force=force)

    replace(SyncPrefectClient, "set_flow_run_state", set_state)
    replace(PrefectClient, "set_flow_run_state", set_state_async)


def _stand_in(engine: Any, verdict: Verdict) -> State[Any]:
    cancelling: State[Any] = Cancelling(message=verdict.message)
    engine.flow_run.state = cancelling
    return cancelling


def lean_engine() -> None:
    """Take out of the flow engine what costs a flow time and is done better elsewhere.

    * A thread, an event loop and a websocket per flow that wait for its suspension from outside:
      the supervisor sees it and says so (`suspend`). About 0.15 s before the first line.
    * The heartbeat thread sleeps in whole seconds, so that every flow ends up to a second late.
    * Every client loads the certificates anew: about 0.1 s each.
    """
    replace(flow_engine, "observe_flow_run_suspension", _observed_outside)
    replace(flow_engine, "_send_heartbeats", _heartbeats)
    replace(orchestration, "ssl", _ssl)


@contextlib.contextmanager
def _observed_outside(*_: Any, **__: Any) -> Iterator[None]:
    yield


@contextlib.contextmanager
def _heartbeats(engine: Any, join_on_exit: bool = True) -> Iterator[None]:
    seconds = engine.heartbeat_seconds
    if seconds is None:
        yield
        return
    resource, related = engine._build_heartbeat_event_template()
    stop = threading.Event()
    context = contextvars.copy_context()

    def beat() -> None:
        # The supervisor beats for short flows: the first one is not sent before its time.
        while not stop.wait(seconds):
            with contextlib.suppress(Exception):
                engine._emit_flow_run_heartbeat(resource, related)

    thread = threading.Thread(target=context.run, args=(beat,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        if join_on_exit:
            thread.join(timeout=2)


# Its default contexts are made once per certificate file.
_ssl = SimpleNamespace(**{**vars(ssl), "create_default_context": cache(ssl.create_default_context)})


def suspend(run_id: str, state: dict[str, Any]) -> None:
    """Tell the flow of this process that somebody has suspended it."""
    mark_flow_run_suspension_requested(UUID(run_id), State.model_validate(state))


# What is imported on the way to a flow's first line, beyond the flow engine itself.
_ON_THE_WAY = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "prefect._internal.observers",
    "prefect.task_engine",
    "pydantic.v1",
    "stringprep",
)


def warm_up() -> None:
    """Import what a flow run imports on its way to the first line."""
    for module in _ON_THE_WAY:
        importlib.import_module(module)
    lean_engine()
    # A first client loads the certificates that all later ones use.
    orchestration.get_client(sync_client=True)


@contextlib.contextmanager
def in_process_api(
    database_url: str, now: Callable[[], datetime], loop: asyncio.AbstractEventLoop
) -> Iterator[Any]:
    """Prefect's REST API as an ASGI application, without a server or its services: for tests.

    The database has to be migrated, `now` is what the server takes for the time, and requests are
    made in `loop`, which does not run at the beginning or at the end.
    """
    import prefect.types._datetime as prefect_time
    from fastapi.exceptions import RequestValidationError
    from prefect.server.api import server
    from prefect.server.database import configurations, dependencies
    from prefect.server.exceptions import ObjectNotFoundError
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings
    from sqlalchemy.exc import IntegrityError

    class NoDocket:
        """Takes no background work: marking queues as polled, giving up on a cancellation."""

        def add(self, *args: object, **options: object) -> Any:
            async def forget(*args: object, **options: object) -> None:
                return

            return forget

        replace = add

    def told(tz: object = "UTC") -> datetime:
        return prefect_time.create_datetime_instance(now())

    handlers: dict[Any, Any] = {
        Exception: server.custom_internal_exception_handler,
        RequestValidationError: server.validation_exception_handler,
        IntegrityError: server.integrity_exception_handler,
        ObjectNotFoundError: server.prefect_object_not_found_exception_handler,
    }
    real = prefect_time.now
    clocks = [
        m for n, m in sys.modules.items() if n.startswith("prefect.") and vars(m).get("now") is real
    ]
    config = configurations.AioSqliteConfiguration(database_url)
    with (
        temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: database_url}),
        dependencies.temporary_database_config(config),
    ):
        app = server.create_api_app(
            fast_api_app_kwargs={"exception_handlers": handlers}, ignore_cache=True
        )
        app.state.docket = NoDocket()
        try:
            for module in clocks:
                replace(module, "now", told)
            yield app
        finally:
            for module in clocks:
                replace(module, "now", real)
            for key in [k for k in configurations.ENGINES if k[0] is loop]:
                loop.run_until_complete(configurations.ENGINES.pop(key).dispose())


def fires(
    schedule: Mapping[str, Any], start: datetime, end: datetime | None, most: int
) -> list[datetime]:
    """When a schedule fires, from `start` to `end`, as the server works it out; at most so many.

    Raises ValueError for a schedule that Prefect would not take.
    """
    from prefect.server.schemas import schedules

    _datetime: Any = importlib.import_module("prefect.types._datetime")
    # Else it walks through the folders of the time zone database for each schedule.
    if _datetime.available_timezones is zoneinfo.available_timezones:
        _datetime.available_timezones = cache(zoneinfo.available_timezones)
    kinds: dict[str, Any] = {
        "cron": schedules.CronSchedule,
        "rrule": schedules.RRuleSchedule,
        "interval": schedules.IntervalSchedule,
    }
    known = {k: v for k, v in schedule.items() if v is not None}
    kind = next((kinds[word] for word in kinds if word in known), None)
    if kind is None:
        raise ValueError("neither cron, nor rrule, nor interval")
    parsed = kind(**known)
    found = parsed._get_dates_generator(n=most, start=start, end=end)
    return [datetime.fromtimestamp(each.timestamp(), UTC) for each in found]


def check_once() -> None:
    """Have the server of this process check a schema, and a run's job variables, once each."""
    from prefect.server.api import validation
    from prefect.utilities.schema_tools import validation as schemas

    validator: Any = schemas._VALIDATOR
    check_schema, known = validator.check_schema, set[bytes]()
    check_variables = validation._validate_work_pool_job_variables

    def keep(digest: bytes) -> None:
        if len(known) > 10_000:
            known.clear()
        known.add(digest)

    def schema_once(schema: Any, *args: Any, **options: Any) -> None:
        text = json.dumps(schema, sort_keys=True, default=str)
        if (digest := hashlib.sha256(text.encode()).digest()) not in known:
            check_schema(schema, *args, **options)
            keep(digest)

    async def variables_once(session: Any, *args: Any, **options: Any) -> None:
        text = json.dumps([args, options], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).digest()
        # What a reference stands for may have changed.
        refers = "__prefect_kind" in text or "block_document_id" in text
        if refers or digest not in known:
            await check_variables(session, *args, **options)
            keep(digest)

    validator.check_schema = staticmethod(schema_once)
    validation._validate_work_pool_job_variables = variables_once


def queue_writers(patience: float = 5.0) -> None:
    """Have those who write to SQLite stand in line; after `patience` seconds one does without."""
    from prefect.server.database.configurations import AioSqliteConfiguration
    from prefect.server.events.services import event_persister

    persister: Any = event_persister
    begin, write = AioSqliteConfiguration.begin_transaction, persister.write_events
    line, inside = asyncio.Lock(), contextvars.ContextVar("inside", default=False)

    @contextlib.asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if not inside.get():  # nobody stands behind itself
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await line.acquire()
                    stack.callback(line.release)
                stack.callback(inside.reset, inside.set(True))
            yield

    @contextlib.asynccontextmanager
    async def in_line(self: Any, session: Any, with_for_update: bool = False) -> AsyncIterator[Any]:
        async with turn(), begin(self, session, with_for_update) as transaction:
            yield transaction

    async def write_in_line(session: Any, events: Any) -> None:
        async with turn():  # one that has read before, and writes after it, would be refused
            await write(session, events)

    AioSqliteConfiguration.begin_transaction = in_line  # type: ignore[method-assign]
    persister.write_events = write_in_line


def limit_requests_only() -> None:
    """Have streams, which stay open, not count among the hundred requests of a server on SQLite."""
    from prefect.server.api.server import RequestLimitMiddleware

    limit: Any = RequestLimitMiddleware
    limited = limit.__call__
    limit.__call__ = lambda self, scope, *io: (
        limited(self, scope, *io) if scope["type"] == "http" else self.app(scope, *io)
    )
