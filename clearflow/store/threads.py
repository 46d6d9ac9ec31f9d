"""Several things at once, in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def several(items: Sequence[Any], act: Callable[[Any], T], width: int) -> list[T]:
    """Do it for each, as many at once as the width says; the first error ends it."""
    if len(items) == 1:
        return [await asyncio.to_thread(act, items[0])]
    loop = asyncio.get_running_loop()
    parts = [items[start::width] for start in range(min(width, len(items)))]
    over = threading.Event()

    def work(part: Sequence[Any]) -> list[T]:
        return [act(item) for item in part if not over.is_set()]

    with ThreadPoolExecutor(width) as pool:
        try:
            done = await asyncio.gather(*(loop.run_in_executor(pool, work, p) for p in parts))
        except BaseException:
            over.set()
            raise
    found: list[Any] = [None] * len(items)
    for start, part in enumerate(done):
        found[start::width] = part
    return found
