"""A task that runs here, and no agent has it: its record, kept by its companion.

That it runs, what it prints, how it ends, the working copy as it stood at its beginning. So the
program itself waits for nothing, and its death is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from clearflow._prefect import claims, events, hops, pools, runs
from clearflow._prefect.connection import connection
from clearflow._prefect.http import Api
from clearflow.capture.owner import owner
from clearflow.errors import ClearflowError, NotFound, Refused
from clearflow.runtimes import wire
from clearflow.service.desk import Desk
from clearflow.settings import settings
from clearflow.supervisor.console import Console
from clearflow.supervisor.lines import secrets_of
from clearflow.supervisor.taking import Taking
from clearflow.tasks import abort as aborting
from clearflow.tasks import script as scripts
from clearflow.tasks.packing import Order, Packed
from clearflow.words import lifecycle, names
from clearflow.words.lifecycle import Exit, Standing, Write
from clearflow.words.models import COMPLETED
from clearflow.words.names import BEGAN, HERE
from clearflow.words.notes import Note
from clearflow.words.scripts import ARGUMENTS


class Local:
    """One task that runs here, from its `begin` until the program is gone or has ended it."""

    def __init__(self, api: Api, place: Path) -> None:
        self._api, self._place = api, place
        self._by = ""
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._token = lifecycle.claim_token()
        self._stale = timedelta(seconds=settings().silence)
        self._heard = time.monotonic()
        self._packed: Packed | None = None
        self._why_not = ""
        self._pid = 0
        self._ended = asyncio.Event()
        self._end: Write | None = None
        self._gone = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the program until it is gone; then its end is on record."""
        shipping = asyncio.create_task(self._console.ship())
        beating = asyncio.create_task(self._beat())
        self._storing = asyncio.create_task(self._store())
        try:
            await self._desk.serve(reader, writer)
            await self._close()
        finally:
            beating.cancel()
            self._console.close()
            await shipping

    # -- the beginning ------------------------------------------------------------------------

    async def begin(self, taking: Taking, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Put the task on record with the working copy as it was taken; what the server says of it.

        Raises ClearflowError.
        """
        self._pid = asked["pid"]
        # Whoever looks after it must know of it, however soon this machine dies.
        announcing = asyncio.create_task(self._announce())
        await asyncio.to_thread(taking.wait)
        self._by = owner()
        self._packed, self._why_not = taking.packed, taking.why_not
        script, name, project = asked["script"], asked["name"], asked["project"]
        title = name or (Path(script).name if script else "interactive")
        group = self._packed.project if self._packed else project or Path.cwd().name or "default"
        note = Note("", by=self._by, agent=self._name, claim=self._token)
        self._run = run = await runs.create_here(
            self._api,
            flow=names.flow_name(group, title),
            write=lifecycle.running(note),
            name=title,
            parameters={ARGUMENTS: list(asked["arguments"])},
            tags=[*asked["tags"], HERE, *names.tags(group, self._by)],
            labels=names.labels(title, group),
        )
        await announcing
        self._console = Console(
            self._api,
            run.id,
            self._place / "console.log",
            head=settings().console_head,
            tail=settings().console_tail,
            secrets=secrets_of(os.environ),
        )
        more: dict[str, Any] = {
            "send": self._send,
            "keep.code": self._keep,
            "console": self._print,
            "end": self._finish,
        }
        self._desk = Desk(self._api, run.id, self._console.note, more, run)
        return dict(await self._desk.answer("me", {}))

    async def _store(self) -> None:
        """Send the working copy, so that the task can be cloned whatever becomes of it here."""
        if self._packed is None:
            self._console.note(f"The code is not kept: {self._why_not}", level=30)
            return
        try:
            job = await scripts.send(self._api, self._packed, lambda done, total: None)
            await scripts.keep_job(self._api, self._run.id, job)
        except Refused as error:
            self._packed, self._why_not = None, error.message
            self._console.note(f"The code is not kept: {error.message}", level=30)

    # -- while it runs ------------------------------------------------------------------------

    def _leased(self) -> bool:
        return time.monotonic() - self._heard < settings().silence * 2 / 3

    async def _beat(self) -> None:
        """Tell that it lives, and hear whether somebody wants it to end."""
        while True:
            sent = time.monotonic()
            with contextlib.suppress(ClearflowError):
                # That it was changed is what is heard of a run that no agent has.
                await runs.patch(self._api, self._run.id, infrastructure_pid=str(self._pid))
                self._heard = sent
                await self._look()
            await asyncio.sleep(min(settings().heartbeat, settings().silence / 3))

    async def _announce(self) -> None:
        """Have agents look after it, as they do after one another's tasks."""
        with contextlib.suppress(ClearflowError):
            pool = await pools.read(self._api, settings().pool)
            resource = f"prefect.work-pool.{pool['id']}"
            await events.emit(
                self._api,
                BEGAN,
                f"clearflow.claim.{self._token}",
                related={resource: "work-pool"},
                payload={"claim": self._token},
            )

    async def _look(self) -> None:
        where, _ = await claims.standing(self._api, self._run.id, self._token)
        self._gone = where is Standing.GONE
        if where is Standing.ABORTED and self._end is None:
            self._end = lifecycle.aborted("the Prefect UI", self._run.note)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGINT)

    async def _print(self, text: str) -> None:
        self._console.take(text.encode(errors="replace"))

    # -- the end ------------------------------------------------------------------------------

    async def _send(
        self,
        queue: str | None,
        clone: bool,
        imported: Mapping[str, Any],
        script: str | None = None,
    ) -> Any:
        """Queue it elsewhere, as it was when the program began, with its parameters as they are.

        A `script` that is named is taken as it is now.
        """
        if queue is not None:
            await pools.queue(self._api, settings().pool, queue)
        if script is not None:
            await self._storing
            order = self._packed.order if self._packed else Order(Path(script))
            place = Path(tempfile.mkdtemp(dir=self._place))
            again = Taking(replace(order, file=Path(script)), place)
            await asyncio.to_thread(again.wait)
            self._packed, self._why_not = again.packed, again.why_not
            self._storing = asyncio.create_task(self._store())
        await self._keep(imported)
        if self._packed is None:
            raise Refused(f"this program cannot be sent: {self._why_not}")
        await self._desk.written()
        await self._console.shipped(5.0)
        fresh = await runs.read(self._api, self._run.id)
        now = self._api.clock.now()
        write = lifecycle.made(self._by) if queue is None else lifecycle.sent(self._by, now)
        template = await scripts.template_of(self._api, fresh, queue)
        job = scripts.job_of(fresh)
        args = (self._api, fresh, template, job, write)
        new = await hops.send_away(*args, queue=queue, clone=clone)
        if not clone:
            self._gone = True
        return await self._desk.answer("describe", {"task": new.id})

    async def _keep(self, imported: Mapping[str, Any]) -> None:
        """With the packages that the program has imported by now, if nothing names others."""
        await self._storing
        if self._packed is None:
            return
        packed = self._packed.with_imported(imported)
        if packed is not self._packed:
            job = await scripts.send(self._api, packed, lambda done, total: None)
            await scripts.keep_job(self._api, self._run.id, job)

    async def _finish(self, status: str, reason: str, imported: Mapping[str, Any]) -> None:
        declared = Exit.declared(*(self._desk.verdict or (status, reason)), self._by)
        if self._end is None:
            self._end = lifecycle.outcome(declared, self._run.note)
        with contextlib.suppress(ClearflowError):
            await self._keep(imported)
        await self._close()

    async def _close(self) -> None:
        """Record the end, once."""
        if self._gone or self._ended.is_set():
            return
        self._ended.set()
        await self._desk.written()
        await self._console.shipped(5.0)
        state = await claims.finish(
            self._api,
            self._run.id,
            self._end or lifecycle.outcome(Exit(vanished=True), self._run.note),
            token=self._token,
            by=self._name,
            leased=self._leased,
            stale_after=self._stale,
        )
        if state is not None and state.type != COMPLETED:
            with contextlib.suppress(NotFound):
                fresh = await runs.read(self._api, self._run.id)
                await aborting.after_end(self._api, fresh, state, by=self._by)


async def _serve(
    sock: socket.socket, place: Path, first: Mapping[str, Any], taking: Taking
) -> None:
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 26)
    try:
        async with Api(connection(), give_up_after=5.0) as api:
            local = Local(api, place)
            seen = await local.begin(taking, first["with"])
            writer.write(wire.encode({"number": first["number"], "answer": seen}))
            api.give_up_after = None  # from now on it outlives the server
            gc.freeze()
            gc.enable()
            await local.serve(reader, writer)
    except ClearflowError as error:
        said = {"error": error.message, "hint": error.hint, "kind": type(error).__name__}
        writer.write(wire.encode({"number": first.get("number"), **said}))
        await writer.drain()


def run(sock: socket.socket, place: Path, first: Mapping[str, Any], taking: Taking) -> None:
    """Answer the program at the other end of the socket, beginning with what it has asked first."""
    asyncio.run(_serve(sock, place, first, taking))
