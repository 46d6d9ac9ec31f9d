"""Telling channels of alerts, each once, whatever dies and whoever does not answer meanwhile.

    add ─ kept ─ gathered for a moment ─ a message, kept ─ sent ─ forgotten

A message is kept before it is sent. Who starts again and finds one asks the channel whether it has
arrived, and only then sends it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from clearflow.automation.alerts import Alert
from clearflow.automation.channels import Channel, Message, NotNow
from clearflow.errors import ClearflowError

GATHERS = 2.0  # seconds: what comes in so short a time is one message
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_REFUSED_WAIT = 300.0  # somebody has to set the channel right first

Compose = Callable[[str, Sequence[Alert]], Awaitable[Message]]


class Teller:
    """The alerts of one channel. `keep` makes what `dump` says last; `compose` finds the words."""

    def __init__(
        self,
        channel: Channel,
        compose: Compose,
        keep: Callable[[], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        self.channel = channel
        self._compose, self._keep, self._say = compose, keep, say
        self._pending: list[Alert] = []
        self._sending: Message | None = None
        self._doubtful = False  # an earlier attempt may have arrived
        self._changed = asyncio.Event()

    def load(self, data: Mapping[str, Any]) -> None:
        """Go on where another one has stopped."""
        self._pending = [Alert(**each) for each in data["pending"]]
        if data["sending"] is not None:
            self._sending, self._doubtful = Message(**data["sending"]), True
        self._changed.set()

    def dump(self) -> dict[str, Any]:
        return {
            "pending": [alert.dump() for alert in self._pending],
            "sending": self._sending.dump() if self._sending else None,
        }

    def add(self, alerts: Sequence[Alert]) -> None:
        """Tell of these; whoever adds them keeps them."""
        self._pending += alerts
        if alerts:
            self._changed.set()

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to tell."""
        return not self._pending and self._sending is None

    async def run(self) -> None:
        """Tell, for ever."""
        while True:
            if self.idle:
                self._changed.clear()
                await self._changed.wait()
            if self._sending is None:
                await asyncio.sleep(GATHERS)
                taken, self._pending = self._pending, []
                self._sending = await self._compose(secrets.token_hex(8), taken)
                self._doubtful = False
                await self._keep()
            await self._send(self._sending)
            self._sending = None
            await self._keep()

    async def _send(self, message: Message) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                if not (self._doubtful and await self.channel.was_sent(message.id)):
                    await self.channel.send(message)
                self._say(f"told {self.channel.name}: {message.text.splitlines()[0]}")
                return
            except NotNow as error:
                # With a time to wait it has been turned away; without one nobody knows.
                self._doubtful = self._doubtful or error.after is None
                pause = error.after if error.after is not None else wait
                wait = min(wait * 2, _LONGEST_WAIT)
                self._say(f"{error.message}; again in {pause:.0f} s")
            except ClearflowError as error:
                pause = _REFUSED_WAIT
                hint = f" ({error.hint})" if error.hint else ""
                self._say(f"{error.message}{hint}; again in {pause / 60:.0f} min")
            await asyncio.sleep(pause)
