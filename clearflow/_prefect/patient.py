"""Prefect's clients in a task's process: they outlive the server, and write within a claim only.

All replaced names are public ones of Prefect's client.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from prefect.client import base as client_base
from prefect.exceptions import Abort

from clearflow._prefect.lean import replace


@dataclass(frozen=True, slots=True)
class Written:
    """What the server answered to a state."""

    status: int
    body: Any


def patient_clients(
    run_id: str, write: Callable[[bytes], Written | None], longest_wait: float = 5.0
) -> None:
    """Have Prefect's clients in this process wait for the server as long as it takes.

    By default a client gives up after a few tries, and a flow whose server is being restarted
    crashes. First retries come after 50 ms and not after 2 s: SQLite answers 503 for moments.

    States of the run `run_id` are not sent from here: this process may be frozen while its request
    is on the way, and the request arrive when somebody else has the task. `write(body)` has the
    supervisor send it; None means that the claim has ended, and raises Abort.
    """
    retried = {408, 429, 502, 503, 504}

    def pause(tries: int, answer: httpx.Response | None) -> float:
        if answer is not None and "Retry-After" in answer.headers:
            try:
                return float(answer.headers["Retry-After"])
            except ValueError:
                pass
        return float(min(0.05 * 2**tries, longest_wait))

    def fenced(request: httpx.Request) -> bool:
        return request.method == "POST" and request.url.path.endswith(f"/{run_id}/set_state")

    def written(request: httpx.Request) -> httpx.Response:
        answer = write(request.content)
        if answer is None:
            raise Abort("this claim on the task has ended")
        return httpx.Response(answer.status, json=answer.body, request=request)

    def send(self: Any, request: httpx.Request, *args: Any, **kwargs: Any) -> httpx.Response:
        if fenced(request):
            return _finished(self, written(request))
        tries = 0
        while True:
            answer: httpx.Response | None = None
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.Client.send(self, request, *args, **kwargs)
            if answer is not None and answer.status_code not in retried:
                return _finished(self, answer)
            time.sleep(pause(tries, answer))
            tries += 1

    async def send_async(
        self: Any, request: httpx.Request, *args: Any, **kwargs: Any
    ) -> httpx.Response:
        if fenced(request):
            return _finished(self, await asyncio.to_thread(written, request))
        tries = 0
        while True:
            answer: httpx.Response | None = None
            with contextlib.suppress(httpx.TransportError):
                answer = await httpx.AsyncClient.send(self, request, *args, **kwargs)
            if answer is not None and answer.status_code not in retried:
                return _finished(self, answer)
            await asyncio.sleep(pause(tries, answer))
            tries += 1

    replace(client_base.PrefectHttpxSyncClient, "send", send)
    replace(client_base.PrefectHttpxAsyncClient, "send", send_async)


def _finished(client: Any, answer: httpx.Response) -> httpx.Response:
    response = client_base.PrefectResponse.from_httpx_response(answer)
    if client.raise_on_all_errors:
        response.raise_for_status()
    return response
