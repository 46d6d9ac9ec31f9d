"""The working copy of a program that runs here, taken while other things are done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from clearflow.capture.owner import owner
from clearflow.errors import ClearflowError
from clearflow.tasks.packing import Order, Packed, pack


class Taking:
    """A working copy that is being taken: what came of it, or why it cannot be, after `wait`.

    Git's name for the user is asked meanwhile too.
    """

    def __init__(self, order: Order | None, place: Path) -> None:
        self.packed: Packed | None = None
        self.why_not = "" if order is not None else "it is no file"
        self._threads = [Thread(target=owner, daemon=True)]
        if order is not None:
            self._threads.append(Thread(target=self._take, args=(order, place), daemon=True))
        for thread in self._threads:
            thread.start()

    def _take(self, order: Order, place: Path) -> None:
        try:
            self.packed = pack(order, place)
        except ClearflowError as error:
            self.why_not = f"{error.message}; {error.hint}" if error.hint else error.message
        except Exception as error:  # a copy that cannot be taken does not keep a program waiting
            self.why_not = f"{type(error).__name__}: {error}"

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()


def order_of(asked: Mapping[str, Any]) -> Order | None:
    """What is to be taken of the program that asks; nothing of one that is no file."""
    if asked["script"] is None:
        return None
    said = {key: asked[key] for key in ("arguments", "project", "name", "tags")}
    return Order(Path(asked["script"]), **said)
