"""What our start of Prefect's server changes in it."""

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from clearflow._prefect import private, server


def engine(database: Path) -> AsyncEngine:
    made = create_async_engine(f"sqlite+aiosqlite:///{database}", connect_args={"timeout": 0})

    @event.listens_for(made.sync_engine, "connect")
    def _(connection: object, _: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    return made


async def test_a_request_that_is_interrupted_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is collected meanwhile, and its error is still at hand, with all it holds."""
    monkeypatch.setattr(aiosqlite.Cursor, "_execute", aiosqlite.Cursor._execute)
    server._close_what_failed()
    writing, go = threading.Event(), threading.Event()

    def slow(value: int) -> int:
        writing.set()
        go.wait(30)
        return value

    of = engine(tmp_path / "x.db")
    try:
        async with of.connect() as other:
            await other.execute(text("CREATE TABLE t (x)"))

            async def request() -> None:
                async with of.connect() as connection:
                    raw = await connection.get_raw_connection()
                    assert raw.driver_connection is not None
                    await raw.driver_connection.create_function("slow", 1, slow)
                    await connection.execute(text("BEGIN IMMEDIATE"))
                    await connection.execute(
                        text("INSERT INTO t VALUES (1), (2) RETURNING slow(x)")
                    )

            gc.disable()
            task = asyncio.create_task(request())
            assert await asyncio.to_thread(writing.wait, 30)
            task.cancel()
            go.set()
            (error,) = await asyncio.gather(task, return_exceptions=True)
            await other.execute(text("BEGIN IMMEDIATE"))
            await other.execute(text("INSERT INTO t VALUES (3)"))
            assert (await other.execute(text("SELECT x FROM t"))).scalars().all() == [3]
            assert isinstance(error, asyncio.CancelledError)
    finally:
        gc.enable()
        await of.dispose()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened in the transactions of Prefect's, which here are nothing but their names."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    happened: list[str] = []

    @contextlib.asynccontextmanager
    async def begin(self: Any, session: str, with_for_update: bool = False) -> AsyncIterator[str]:
        happened.append(f"{session} begins")
        yield session
        happened.append(f"{session} ends")

    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", begin)
    return happened


def transaction(name: str) -> Any:
    from prefect.server.database.configurations import AioSqliteConfiguration

    return AioSqliteConfiguration.begin_transaction(None, name)  # type: ignore[arg-type]


async def test_one_writer_at_a_time_and_none_waits_for_itself(written: list[str]) -> None:
    private.queue_writers(patience=60)
    go, both = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with transaction("a"), transaction("inside a"):
            both.set()
            await go.wait()

    async def second() -> None:
        await both.wait()
        asyncio.get_running_loop().call_soon(go.set)
        async with transaction("b"):
            pass

    await asyncio.gather(first(), second())
    ends = ["a begins", "inside a begins", "inside a ends", "a ends", "b begins", "b ends"]
    assert written == ends


async def test_a_writer_that_waits_too_long_goes_on_without_its_turn(written: list[str]) -> None:
    private.queue_writers(patience=0.05)
    async with transaction("stuck"):
        # Another request, and not a part of the one that is stuck.
        late = asyncio.create_task(_write("late"), context=contextvars.Context())
        await late
    async with transaction("next"):
        pass
    assert written == [
        *("stuck begins", "late begins", "late ends", "stuck ends", "next begins", "next ends")
    ]


async def _write(name: str) -> None:
    async with transaction(name):
        pass


async def test_job_variables_are_checked_once_but_bad_ones_and_references_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.server.api import validation
    from prefect.utilities.schema_tools import validation as schemas

    checked: list[dict[str, Any]] = []

    async def check(session: Any, pool: str, template: Any, *variables: Any) -> None:
        checked.extend(variables)
        if "bad" in variables[0]:
            raise ValueError("as the server does")

    validator: Any = schemas._VALIDATOR
    monkeypatch.setattr(validator, "check_schema", validator.check_schema)
    monkeypatch.setattr(validation, "_validate_work_pool_job_variables", check)
    private.check_once()
    once: Any = validation._validate_work_pool_job_variables
    good, other, bad = {"image": "a"}, {"image": "b"}, {"bad": 1}
    reference = {"image": {"__prefect_kind": "workspace_variable", "variable_name": "image"}}
    for variables in (good, good, other, good, bad, bad, reference, reference):
        with contextlib.suppress(ValueError):
            await once(None, "pool", {}, variables)
    assert checked == [good, other, bad, bad, reference, reference]


def test_a_schema_is_checked_once_but_one_that_is_none_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.server.api import validation
    from prefect.utilities.schema_tools import validation as schemas

    checked: list[dict[str, Any]] = []

    def check(schema: dict[str, Any]) -> None:
        checked.append(schema)
        if schema["type"] == "thing":
            raise ValueError("as jsonschema does")

    validator: Any = schemas._VALIDATOR
    monkeypatch.setattr(validator, "check_schema", check)
    name = "_validate_work_pool_job_variables"
    monkeypatch.setattr(validation, name, getattr(validation, name))  # put back at the end
    private.check_once()
    good, bad = {"type": "object"}, {"type": "thing"}
    for schema in (good, good, bad, bad):
        with contextlib.suppress(ValueError):
            validator.check_schema(schema)
    assert checked == [good, bad, bad]
