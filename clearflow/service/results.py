"""The results of one task on their way to the server.

    take ─ append to the open segment, write it at most once a second ─ full: begin another ─
    draw each title anew every few seconds ─ `written`: all of it, now

Scalars are kept as they are, in segments that only programs read. What people look at in the
Prefect UI is drawn from them: one picture for each title, tables, images.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clearflow._prefect import artifacts, runs
from clearflow._prefect.artifacts import HIDDEN, MARKDOWN, TABLE
from clearflow._prefect.http import Api
from clearflow.errors import ClearflowError
from clearflow.tasks import results as reading
from clearflow.tasks.results import ARTIFACTS, GRID, PICTURE, SCALARS, SCALARS_PICTURE, VALUES
from clearflow.tasks.telling import Reports
from clearflow.words import drawing
from clearflow.words.curves import FULL, Key, Segment, Trail, thinned
from clearflow.words.drawing import Axes, Line

EVERY = 1.0  # seconds between two writes of the open segment
DRAWN = 5.0  # seconds between two pictures of one title
_POINTS = 250  # of a curve in a picture
_TRIES = 5
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

Scalars = Sequence[tuple[str, str, Sequence[int], Sequence[Any]]]
Slot = tuple[str, ...]
"""Which artifact: its kind, and what names it among those."""


class Results:
    """What a task reports. `say` is told in a line what could not be kept."""

    def __init__(self, api: Api, run_id: str, say: Callable[[str], None]) -> None:
        self._api, self._run_id, self._say = api, run_id, say
        self._scalars: deque[tuple[str, str, list[int], list[float]]] = deque()
        self._items: deque[Mapping[str, Any]] = deque()
        self._segment: Segment | None = None
        self._reports: Reports | None = None
        self._segment_id: str | None = None
        self._unwritten = False
        self._trails: dict[Key, Trail] = {}
        self._undrawn: set[str] = set()
        self._drawn = 0.0
        # The artifacts that there are, made by this or by an earlier attempt.
        self._ids: dict[Slot, str] = {}
        self._counts: dict[Slot, int] = {}
        self._changed, self._hurry = asyncio.Event(), asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def take(self, scalars: Scalars = (), items: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep columns of scalars (title, series, iterations, values), and other items.

        Returns at once; what is taken is on the server a second or two later. Raises TypeError or
        ValueError for what is no such thing.
        """
        self._scalars.extend(
            [
                (_storable(title), _storable(series), list(map(int, at)), list(map(float, values)))
                for title, series, at, values in scalars
            ]
        )
        self._items.extend(items)
        self._changed.set()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def written(self) -> None:
        """Until all that was taken is on the server, drawn too."""
        while self._writing is not None and not self._writing.done():
            self._hurry.set()
            await asyncio.shield(self._writing)
        self._hurry.clear()

    async def _write(self) -> None:
        failures = 0
        while self._changed.is_set() or self._unwritten or self._undrawn:
            self._changed.clear()
            try:
                await self._round()
                failures = 0
            except ClearflowError as error:
                failures += 1
                if failures == _TRIES:
                    self._say(f"Scalars could not be kept: {error.message}")
                    return
            try:
                async with asyncio.timeout(EVERY):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        if self._segment is None:
            await self._begin()
        await self._write_segments()
        while self._items:
            try:
                await self._item(self._items[0])
            except (ClearflowError, KeyError, TypeError, ValueError) as error:
                self._say(f"A result could not be kept: {error}")
            self._items.popleft()
        if self._hurry.is_set() or time.monotonic() - self._drawn > DRAWN:
            await self._draw()

    async def _begin(self) -> None:
        """What there is already, of an earlier attempt or another writer."""
        run = await runs.read(self._api, self._run_id)
        self._reports = Reports(run)
        claim = (run.state.note.claim if run.state else None) or ""
        at = self._api.clock.now().isoformat()
        self._segment = Segment(claim, secrets.token_hex(6), at)
        async for each in artifacts.of(self._api, self._run_id, TABLE, MARKDOWN):
            named = [each.about[k] for k in ("title", "series", "slot") if k in each.about]
            self._ids.setdefault((each.kind, *named), each.id)
        for key, curve in (await reading.curves(self._api, self._run_id)).items():
            self._trails[key] = Trail(curve)

    # -- scalars ------------------------------------------------------------------------------

    async def _write_segments(self) -> None:
        while self._scalars:
            assert self._segment is not None
            title, series, iterations, values = self._scalars[0]
            room = max(FULL - self._segment.size, 1)
            now, numbers = iterations[:room], values[:room]
            self._segment.add((title, series), now, numbers)
            self._trails.setdefault((title, series), Trail()).add(now, numbers)
            self._undrawn.add(title)
            self._unwritten = True
            self._scalars.popleft()
            if len(iterations) > room:
                self._scalars.appendleft((title, series, iterations[room:], values[room:]))
            if self._segment.size >= FULL:
                await self._write_segment()
                self._segment, self._segment_id = self._segment.following(), None
        await self._write_segment()

    async def _write_segment(self) -> None:
        if not self._unwritten:
            return
        assert self._segment is not None
        data = self._segment.data()
        if self._segment_id is None or not await artifacts.update(
            self._api, self._segment_id, data
        ):
            self._segment_id = await artifacts.create(
                self._api, self._run_id, SCALARS, HIDDEN, data
            )
        self._unwritten = False
        if self._reports is not None:
            await self._reports.tell(self._api)

    async def _draw(self) -> None:
        self._drawn = time.monotonic()
        while self._undrawn:
            title = min(self._undrawn)
            mine = sorted(key for key in self._trails if key[0] == title)
            series = [_line(key[1], self._trails[key]) for key in mine]
            picture = drawing.lines(title, series, Axes(x="iteration"))
            slot = (SCALARS_PICTURE, title)
            await self._put_picture(slot, title, _svg(picture), f"**{_escaped(title)}**")
            self._undrawn.discard(title)

    # -- all else -----------------------------------------------------------------------------

    async def _item(self, item: Mapping[str, Any]) -> None:
        kind = item["kind"]
        if kind == VALUES:
            await self._row(VALUES, "Single values", {"name": item["name"], "value": item["value"]})
        elif kind == ARTIFACTS:
            row = {k: v for k, v in item.items() if k not in {"kind", "content", "spooled"}}
            kept = item.get("spooled")
            row["content"] = kept or await reading.keep(
                self._api, base64.b64decode(item["content"])
            )
            await self._row(ARTIFACTS, "Artifacts", row)
        elif kind in {PICTURE, GRID}:
            title, series = item["title"], item["series"]
            slot = (kind, title, series, str(self._turn(item)))
            named = f"**{_escaped(title)}** {_escaped(series)}".strip()
            words = f"{named}, iteration {item['iteration']}"
            if kind == GRID:
                await self._put(slot, TABLE, json.dumps(item["rows"]), words)
            else:
                await self._put_picture(slot, title, item["url"], words)

    def _turn(self, item: Mapping[str, Any]) -> int:
        """Which of the places of a series is next: as many are kept as the item says."""
        key = (item["kind"], item["title"], item["series"])
        turn = self._counts.get(key, 0)
        self._counts[key] = turn + 1
        return turn % max(int(item.get("history", 1)), 1)

    async def _row(self, kind: str, words: str, row: Mapping[str, Any]) -> None:
        """Put a row into a table, in the place of one of its name. Others may write it too."""
        id = self._ids.get((kind,))
        found = await artifacts.read(self._api, id) if id is not None else None
        rows = json.loads(found.data) if found is not None else []
        kept = [r for r in rows if r["name"] != row["name"]]
        await self._put((kind,), TABLE, json.dumps([*kept, row]), f"**{words}**")

    async def _put_picture(self, slot: Slot, title: str, url: str, words: str) -> None:
        # The UI shows pictures in Markdown that hold themselves; those of type `image` too, but
        # with their whole address in letters below.
        await self._put(slot, MARKDOWN, f"![{_escaped(title)}]({url})", words)

    async def _put(self, slot: Slot, type: str, data: str, words: str) -> None:
        id = self._ids.get(slot)
        if id is not None and await artifacts.update(self._api, id, data, words):
            return
        named = dict(zip(("title", "series", "slot"), slot[1:], strict=False))
        self._ids[slot] = await artifacts.create(
            self._api, self._run_id, slot[0], type, data, about=named, description=words
        )


def _storable(name: Any) -> str:
    """A name without what databases refuse: NUL, and halves of characters."""
    return _UNSTORABLE.sub("\ufffd", str(name))


def _line(name: str, trail: Trail) -> Line:
    curve = thinned(trail.curve(), _POINTS)
    return Line(name, curve.iterations, curve.values)


def _svg(picture: str) -> str:
    return drawing.data_uri("image/svg+xml", picture.encode())


def _escaped(words: str) -> str:
    """Words that Markdown leaves as they are."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()<>#+-.!|" else c for c in words)
