"""Where alerts go: what a message is, and any channel that Prefect can notify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from clearflow.errors import ClearflowError, NotFound


@dataclass(frozen=True)
class Message:
    """`text` is all of it in plain words, `blocks` the same as Slack shows it."""

    id: str
    text: str
    blocks: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def dump(self) -> dict[str, Any]:
        return asdict(self)


class NotNow(ClearflowError):
    """The channel does not take messages now."""

    def __init__(self, after: float | None, message: str) -> None:
        super().__init__(message)
        self.after = after


class Channel(Protocol):
    """Somewhere to send messages. `name` is for people."""

    @property
    def name(self) -> str: ...

    async def send(self, message: Message) -> None:
        """Send it. Raises NotNow to be asked again later, another ClearflowError for never."""

    async def was_sent(self, message_id: str) -> bool:
        """Whether an earlier attempt, of which nobody heard the answer, has arrived."""


class Notification:
    """A notification block of Prefect's, such as `slack-webhook/team` or `email/oncall`.

    It cannot tell what it has sent: a message whose answer got lost is sent again.
    """

    def __init__(self, block: str) -> None:
        self.name = block

    async def check(self) -> None:
        """Raises NotFound for a block that is not there."""
        await self._load()

    async def _load(self) -> Any:
        from prefect.blocks.core import Block

        try:
            return await Block.aload(self.name)
        except ValueError:
            raise NotFound(
                f"there is no block {self.name!r}",
                hint="`prefect block ls` lists them, as TYPE/NAME",
            ) from None

    async def send(self, message: Message) -> None:
        from prefect.blocks.abstract import NotificationError

        block = await self._load()
        head, _, rest = message.text.partition("\n")
        try:
            with block.raise_on_failure():
                await _awaited(block.notify(body=rest or head, subject=head))
        except NotificationError as error:
            raise NotNow(None, f"{self.name}: {error}") from None

    async def was_sent(self, message_id: str) -> bool:
        return False


async def _awaited(value: Any) -> Any:
    """Blocks come with `notify` of either kind."""
    return await value if hasattr(value, "__await__") else value


async def secret(name: str) -> str:
    """The value of a Secret block. Raises NotFound."""
    from prefect.blocks.system import Secret

    try:
        found: Any = await Secret.aload(name)
    except ValueError:
        raise NotFound(
            f"there is no Secret block {name!r}",
            hint="make it in the Prefect UI under Blocks, or with `python blocks/register.py`",
        ) from None
    return str(found.get())
