"""One HTTP conversation with the Prefect server: keys, retries, errors, and the server's clock."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import struct
import time
from collections.abc import Callable, Mapping
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from clearflow._prefect.connection import Connection
from clearflow._prefect.light import without
from clearflow.clock import ServerClock
from clearflow.errors import Conflict, NotFound, Refused, ServerError, Unauthorized, Unreachable

if TYPE_CHECKING:
    import httpx
else:
    # Its command line, and HTTP/2, take longer to import than what is used of it. Whoever else
    # wants HTTP/2 in this process still has it: it is imported again for the first such connection.
    with without("httpx._main", "h2"):
        import httpcore  # noqa: F401
        import httpx

# Prefect's client waits 2 s before the first retry of a 503. SQLite answers 503 for some
# milliseconds while another writer holds it, so we ask again at once.
_RETRIED = {408, 429, 502, 503, 504}
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0
_FROZEN = 5.0  # seconds; a server that takes longer for an answer stood still
# Prefect's server closes a connection that nobody has used for 5 s: to write into one that it is
# just closing is an error. The rest is httpx's own.
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=3.0)


class Api:
    """Requests to the server's REST API.

    A request that the server does not answer, or answers with "try again", is repeated: for
    `give_up_after` seconds, or for ever when it is None (agents and supervisors outlive the
    server). `on_change(answers)` is called when the server does not answer, and when it does
    again, also after it took so long that others may not have been heard meanwhile.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        give_up_after: float | None = 10.0,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.connection = connection
        self.clock = ServerClock()
        self.requests = 0
        self.give_up_after = give_up_after
        self.on_change: Callable[[bool], None] = lambda answers: None
        self._reachable = True
        headers = {"User-Agent": "clearflow", **connection.headers}
        if _is_local(connection.url):
            # To pack and unpack an answer takes longer than to send it as it is.
            headers["Accept-Encoding"] = "identity"
        if connection.key:
            headers["Authorization"] = f"Bearer {connection.key}"
        elif connection.auth_string:
            token = base64.b64encode(connection.auth_string.encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        # Without TLS no certificates are loaded, which takes longer than a request.
        verify: Any = connection.url.startswith("https:") and connection.verify_tls
        if verify and connection.tls_cert_file:
            import ssl

            verify = ssl.create_default_context(cafile=connection.tls_cert_file)
        self._http = httpx.AsyncClient(
            base_url=connection.url,
            headers=headers,
            timeout=timeout,
            verify=verify,
            transport=transport,
            trust_env=not _is_local(connection.url),
            limits=_LIMITS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        return await self.request("GET", path, query=query or None)

    async def post(self, path: str, body: Any = None) -> Any:
        return await self.request("POST", path, body)

    async def patch(self, path: str, body: Any) -> Any:
        return await self.request("PATCH", path, body)

    async def delete(self, path: str) -> Any:
        return await self.request("DELETE", path)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        once: bool = False,
    ) -> Any:
        """The decoded answer (None for an empty one).

        `once` is for what must not be said twice: a request without an answer is not repeated.

        Raises Unreachable (no answer), Unauthorized (401, 403), NotFound (404), Conflict (409),
        Refused (other 4xx, with the server's words) and ServerError (5xx).
        """
        patience = 0.0 if once else self.give_up_after
        deadline = None if patience is None else time.monotonic() + patience
        wait = _FIRST_WAIT
        while True:
            pause: float | None = None
            try:
                answer = await self._send(method, path, body, query)
            except NoAddress:
                raise
            except Unreachable as error:
                failure: Exception = error
            else:
                if answer.status_code not in _RETRIED:
                    return _decoded(answer, method, path)
                failure = ServerError(f"{method} {path}: the server answers {answer.status_code}")
                pause = _retry_after(answer)
            if pause is None:
                pause = wait * random.uniform(0.75, 1.25)
                wait = min(wait * 2, _LONGEST_WAIT)
            if deadline is not None and time.monotonic() + pause > deadline:
                raise failure
            await asyncio.sleep(pause)

    async def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """What the server answers, whatever it is, to a request that is sent once.

        Raises Unreachable, and ServerError where it says "try again".
        """
        answer = await self._send(method, path, body, None)
        if answer.status_code in _RETRIED:
            raise ServerError(f"{method} {path}: the server answers {answer.status_code}")
        return answer.status_code, answer.json()

    async def _send(
        self, method: str, path: str, body: Any, query: dict[str, Any] | None
    ) -> httpx.Response:
        content = None if body is None else json.dumps(body, default=str).encode()
        asked = time.monotonic()
        self.requests += 1
        try:
            answer = await self._http.request(
                method,
                path,
                content=content,
                headers={"Content-Type": "application/json"} if content else None,
                params=query,
                extensions={"trace": _reset_when_given_up},
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise NoAddress(f"{self.connection.url} is not the URL of a server") from error
        except httpx.TransportError as error:
            self._answers(False)
            raise Unreachable(
                f"the Prefect server at {self.connection.url} does not answer ({_words(error)})",
                hint="is it running? `clearflow up` starts one here",
            ) from error
        self.clock.observe_header(answer.headers.get("date"))
        if answer.status_code not in _RETRIED:
            self._answers(True, after=time.monotonic() - asked)
        return answer

    def _answers(self, answers: bool, after: float = 0.0) -> None:
        if answers != self._reachable or after > _FROZEN:
            self._reachable = answers
            self.on_change(answers)


class NoAddress(Unreachable):
    """This is not the URL of a server."""


async def _reset_when_given_up(event: str, info: Mapping[str, Any]) -> None:
    """A request that is given up must not arrive later: its connection is reset, not closed.

    The kernel goes on sending what was written to a socket that is closed, for minutes where a
    network is down. A write that its claim's holder has given up would arrive after somebody else
    has taken the task over. (The `trace` extension of httpx sees connections come up.)
    """
    if event == "connection.connect_tcp.complete":
        sock = info["return_value"].get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))


def _is_local(url: str) -> bool:
    host = httpx.URL(url).host
    return host in {"localhost", "::1"} or host.startswith("127.")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _retry_after(answer: httpx.Response) -> float | None:
    try:
        return float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        return None


def _decoded(answer: httpx.Response, method: str, path: str) -> Any:
    if answer.is_success:
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise Unreachable(
                f"{answer.request.url} is not a Prefect API: it answers with something else",
                hint="the URL of a Prefect server ends in /api",
            ) from None
    said = _detail(answer)
    if answer.status_code in {401, 403}:
        raise Unauthorized(
            f"the Prefect server does not accept this key ({said})",
            hint="`clearflow init` stores another one",
        )
    if answer.status_code == 404:
        if said == "Not Found":
            # About a thing that is not there Prefect says more than this.
            raise ServerError(
                f"this Prefect server does not know {method} {path}",
                hint="clearflow is made for Prefect 3.8.8 and later, below 3.9",
            )
        raise NotFound(said)
    if answer.status_code == 409:
        raise Conflict(said)
    if answer.status_code < 500:
        raise Refused(f"{method} {path}: {said}")
    raise ServerError(f"{method} {path}: the server answers {answer.status_code}: {said}")


def _detail(answer: httpx.Response) -> str:
    try:
        data = answer.json()
    except ValueError:
        return answer.text[:200] or str(answer.status_code)
    detail = data.get("detail", data) if isinstance(data, dict) else data
    return detail if isinstance(detail, str) else json.dumps(detail)[:500]
