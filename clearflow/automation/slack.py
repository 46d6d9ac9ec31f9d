"""Slack: one channel that messages are sent to, each of them once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from clearflow.automation.channels import Message, NotNow
from clearflow.errors import NotFound, Refused, Unauthorized

_EVENT = "clearflow_alert"
_BUSY = {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"}
_SECRET = {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"}


class Slack:
    """A channel, by its name or id; `token` is a bot's, with the scope `chat:write`.

    With the scope `channels:history` too, a message whose answer got lost is looked for before it
    is sent again.
    """

    def __init__(self, token: str, channel: str, api_url: str = "https://slack.com/api/") -> None:
        self._client = AsyncWebClient(token=token, base_url=api_url.rstrip("/") + "/", timeout=30)
        self._channel = channel
        self._id: str | None = None

    @property
    def name(self) -> str:
        return self._channel

    async def check(self) -> None:
        """Raises Unauthorized for a bad token, NotFound for a channel that is not there."""
        await self._call("auth.test", {})
        # A message at a time that is long over is refused, but only where one could be sent.
        answer = await self._call(
            "conversations.info", {"channel": self._channel}, accept={"missing_scope"}
        )
        if answer.get("ok"):
            self._id = str(answer["channel"]["id"])

    async def send(self, message: Message) -> None:
        """Send a message. Raises NotNow when Slack does not take it now."""
        body = {
            "channel": self._id or self._channel,
            "text": message.text,
            "blocks": list(message.blocks),
            "unfurl_links": False,
            "metadata": {"event_type": _EVENT, "event_payload": {"id": message.id}},
        }
        answer = await self._call("chat.postMessage", body)
        self._id = str(answer.get("channel") or self._id or self._channel)

    async def was_sent(self, message_id: str) -> bool:
        """Whether the message stands in the channel already, as far as one may look."""
        body = {
            "channel": self._id or self._channel,
            "limit": 100,
            "include_all_metadata": True,
        }
        known = {"missing_scope", "channel_not_found", "not_in_channel"}
        answer = await self._call("conversations.history", body, accept=known)
        for each in answer.get("messages") or ():
            payload = (each.get("metadata") or {}).get("event_payload") or {}
            if payload.get("id") == message_id:
                return True
        return False

    async def _call(
        self, method: str, body: Mapping[str, Any], accept: set[str] | None = None
    ) -> dict[str, Any]:
        try:
            answer = await self._client.api_call(method, json=dict(body))
        except SlackApiError as error:
            said = error.response
            word = str(said.get("error") or "")
            if word in (accept or ()):
                return {"ok": False, "error": word}
            if said.status_code == 429 or word in _BUSY or said.status_code >= 500:
                raise NotNow(_wait(said.headers), f"Slack: {word or said.status_code}") from None
            raise self._refused(word) from None
        except (TimeoutError, SlackClientError, OSError, ValueError) as error:
            raise NotNow(None, f"Slack does not answer: {type(error).__name__}") from None
        return dict(answer.data) if isinstance(answer.data, dict) else {}

    def _refused(self, word: str) -> Exception:
        if word == "channel_not_found":
            return NotFound(
                f"there is no Slack channel {self._channel!r}",
                hint="its name begins with #; a private one has to invite the bot",
            )
        if word == "not_in_channel":
            return Refused(
                f"the bot is not in the Slack channel {self._channel!r}",
                hint="invite it: /invite @bot",
            )
        if word in _SECRET:
            return Unauthorized(f"Slack does not accept this token ({word})")
        return Refused(f"Slack refuses the message: {word}")


def _wait(headers: Mapping[str, Any]) -> float | None:
    for name, value in headers.items():
        if name.lower() == "retry-after":
            text = value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value
            try:
                return float(text)
            except ValueError:
                return None
    return None
