"""What our start of Prefect's server changes in it."""

import asyncio
import gc
import threading
from pathlib import Path

import aiosqlite
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from clearflow._prefect import server


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
