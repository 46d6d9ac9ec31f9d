"""Everything of Prefect that clearflow replaces or that is private, by name.

A Prefect that has moved one of these fails here, and not at a user's.
"""

import importlib
import inspect
from pathlib import Path

import pytest

import clearflow

_DATES = ["self", "n", "start", "end"]

_ASGI = ["self", "scope", "receive", "send"]

# Module, name, and the parameters that we rely on (None: only that it is there).
NAMES: list[tuple[str, str, list[str] | None]] = [
    ("aiosqlite", "Cursor._execute", ["self", "fn", "args", "kwargs"]),
    (
        "prefect._flow_run_suspension",
        "mark_flow_run_suspension_requested",
        ["flow_run_id", "state"],
    ),
    ("prefect._internal.observers", "FlowRunSuspendingObserver", None),
    ("prefect.flow_engine", "observe_flow_run_suspension", None),
    ("prefect.flow_engine", "_send_heartbeats", ["engine", "join_on_exit"]),
    ("prefect.flow_engine", "FlowRunEngine.set_state", ["self", "state", "force"]),
    ("prefect.flow_engine", "AsyncFlowRunEngine.set_state", ["self", "state", "force"]),
    ("prefect.flow_engine", "FlowRunEngine.call_hooks", ["self", "state"]),
    ("prefect.flow_engine", "AsyncFlowRunEngine.call_hooks", ["self", "state"]),
    ("prefect.flow_engine", "BaseFlowRunEngine.heartbeat_seconds", None),
    ("prefect.flow_engine", "BaseFlowRunEngine._build_heartbeat_event_template", ["self"]),
    (
        "prefect.flow_engine",
        "BaseFlowRunEngine._emit_flow_run_heartbeat",
        ["self", "resource", "related"],
    ),
    (
        "prefect.flow_engine",
        "run_flow",
        [
            "flow",
            "flow_run",
            "parameters",
            "wait_for",
            "return_type",
            "error_logger",
            "context",
        ],
    ),
    ("prefect.client.orchestration", "ssl", None),
    ("prefect.types._datetime", "available_timezones", None),
    ("prefect.utilities.schema_tools.validation", "_VALIDATOR.check_schema", None),
    (
        "prefect.server.api.validation",
        "_validate_work_pool_job_variables",
        None,
    ),
    (
        "prefect.server.events.services.event_persister",
        "write_events",
        ["session", "events"],
    ),
    ("prefect.client.base", "PrefectHttpxSyncClient.send", None),
    ("prefect.client.base", "PrefectHttpxAsyncClient.send", None),
    ("prefect.client.base", "PrefectResponse.from_httpx_response", None),
    (
        "prefect.client.orchestration",
        "SyncPrefectClient.set_flow_run_state",
        ["self", "flow_run_id", "state", "force"],
    ),
    (
        "prefect.client.orchestration",
        "PrefectClient.set_flow_run_state",
        ["self", "flow_run_id", "state", "force"],
    ),
    ("prefect.client.orchestration", "SyncPrefectClient.read_flow_run", ["self", "flow_run_id"]),
    ("prefect.client.orchestration", "SyncPrefectClient.update_flow_run", None),
    ("prefect.client.orchestration", "SyncPrefectClient.raise_for_api_version_mismatch", None),
    ("prefect.client.orchestration", "SyncPrefectClient.read_server_default_result_storage", None),
    ("prefect.logging.handlers", "APILogHandler.prepare", ["self", "record"]),
    ("prefect.server.api.server", "RequestLimitMiddleware.__call__", _ASGI),
    ("prefect.server.api.server", "create_api_app", None),
    ("prefect.server.database.configurations", "AioSqliteConfiguration", None),
    (
        "prefect.server.database.configurations",
        "AioSqliteConfiguration.begin_transaction",
        ["self", "session", "with_for_update"],
    ),
    ("prefect.server.database.configurations", "ENGINES", None),
    ("prefect.server.database.dependencies", "temporary_database_config", None),
    ("prefect.server.exceptions", "ObjectNotFoundError", None),
    ("prefect.server.schemas.schedules", "CronSchedule._get_dates_generator", _DATES),
    ("prefect.server.schemas.schedules", "IntervalSchedule._get_dates_generator", _DATES),
    ("prefect.server.schemas.schedules", "RRuleSchedule._get_dates_generator", _DATES),
    ("prefect.types._datetime", "now", None),
]


@pytest.mark.parametrize(("module", "name", "parameters"), NAMES, ids=lambda v: str(v)[:60])
def test_it_is_where_it_was(module: str, name: str, parameters: list[str] | None) -> None:
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if parameters is not None:
        assert list(inspect.signature(found).parameters) == parameters  # type: ignore[arg-type]


def test_nothing_private_is_missing_from_this_list() -> None:
    """Every private module that `private.py` imports is named above."""
    source = Path(clearflow.__file__).parent / "_prefect" / "private.py"
    listed = {module for module, _, _ in NAMES}
    for line in source.read_text().splitlines():
        words = line.split()
        if words[:1] == ["from"] and words[1].startswith(("prefect._", "prefect.server")):
            assert any(m.startswith(words[1]) for m in listed), line
