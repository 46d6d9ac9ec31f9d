"""A stand-in for Slack's Web API, at the wire: what it is sent, and how it fails when told to."""

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TOKEN = "xoxb-canary-of-the-tests"


class FakeSlack:
    """The channels `#training` and `#ops`; `messages` are those that stand in them, in order.

    `fail` has the next answers to `chat.postMessage` fail, each of them by a word: `429`, `500`,
    `drop` (no answer, the message is not posted), `lose` (posted, but no answer). While `down` is
    set every connection is closed at once.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.fail: list[str] = []
        self.asked = 0
        self.down = False
        self.url = ""
        self._clock = itertools.count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.down and (line := await reader.readline()):
                method = line.split()[1].decode().rpartition("/")[2]
                headers = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status, answer, extra = self._answer(method, headers, body)
                if status == 0:
                    return
                content = json.dumps(answer).encode()
                writer.write(
                    f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\n{extra}"
                    f"Content-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def _answer(
        self, method: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any], str]:
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return 200, {"ok": False, "error": "invalid_auth"}, ""
        data = json.loads(body or b"{}")
        channel = str(data.get("channel", ""))
        known = {"#training": "C1", "#ops": "C2", "C1": "C1", "C2": "C2"}
        if method == "auth.test":
            return 200, {"ok": True}, ""
        if channel not in known:
            return 200, {"ok": False, "error": "channel_not_found"}, ""
        if method == "conversations.info":
            return 200, {"ok": True, "channel": {"id": known[channel]}}, ""
        if method == "conversations.history":
            found = [m for m in self.messages if m["channel"] == known[channel]]
            return 200, {"ok": True, "messages": found[::-1][: data.get("limit", 100)]}, ""
        return self._post(known[channel], data)

    def _post(self, channel: str, data: dict[str, Any]) -> tuple[int, dict[str, Any], str]:
        self.asked += 1
        how = self.fail.pop(0) if self.fail else ""
        if how == "429":
            return 429, {"ok": False, "error": "ratelimited"}, "Retry-After: 1\r\n"
        if how == "500":
            return 500, {"ok": False, "error": "internal_error"}, ""
        if how == "drop":
            return 0, {}, ""
        stamp = f"{next(self._clock)}.0"
        self.messages.append({**data, "channel": channel, "ts": stamp})
        if how == "lose":
            return 0, {}, ""
        return 200, {"ok": True, "channel": channel, "ts": stamp}, ""


@contextmanager
def fake_slack() -> Iterator[FakeSlack]:
    """It runs in a thread; its `url` is that of an API."""
    fake = FakeSlack()
    loop = asyncio.new_event_loop()
    started: threading.Event = threading.Event()

    async def main() -> None:
        server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
        fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/"
        started.set()
        async with server:
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    started.wait()
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
