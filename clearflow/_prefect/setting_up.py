"""Getting to know a server, and making what clearflow needs there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from clearflow._prefect import compat, pools
from clearflow._prefect.http import Api
from clearflow._prefect.template import base_job_template
from clearflow.errors import Conflict, NotFound, Refused, ServerError, Unreachable, Usage

OLDEST = (3, 8)
QUEUES = ("cpu", "gpu", "services")
_DESCRIPTIONS = {
    "cpu": "Tasks that need no GPU",
    "gpu": "Tasks that need a GPU",
    "services": "Light controllers: schedules, pipelines, autoscalers",
}
_CLOUD_PAGE = re.compile(r"/account/([0-9a-f-]+)/workspace/([0-9a-f-]+)")


def api_url(given: str) -> str:
    """The address of the API, from whatever address of the server a person has at hand.

    Takes the UI's address from a browser, and one without scheme. Raises Usage for what cannot be
    an address.
    """
    text = given.strip()
    if "://" not in text:
        text = f"http://{text}"
    parts = urlsplit(text)
    try:
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or re.search(r"\s", text):
        raise Usage(
            f"{given!r} is not the address of a server",
            hint="such as http://127.0.0.1:4200/api",
        )
    if match := _CLOUD_PAGE.search(parts.path):
        return f"https://api.prefect.cloud/api/accounts/{match[1]}/workspaces/{match[2]}"
    path = parts.path.rstrip("/")
    if "/api" not in path:
        # Pages of the UI; a server behind a proxy keeps what stands before them.
        path = re.sub(r"/(v2|dashboard|runs|flows|deployments|work-pools)(/.*)?$", "", path)
        path += "/api"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


async def check(api: Api) -> str | None:
    """The server's version; None where it is not told (Prefect Cloud).

    Asks for something that needs a key, too. Raises Unreachable, Unauthorized, and Refused for a
    Prefect that clearflow cannot work with.
    """
    try:
        version: str | None = str(await api.get("/admin/version"))
    except (NotFound, ServerError):
        version = None
    if version is not None:
        _refuse_too_old(version)
    try:
        await pools.all_of_type(api)
    except (NotFound, ServerError) as error:
        if version is not None:
            raise
        raise Unreachable(
            f"there is no Prefect API at {api.connection.url} ({error.message})",
            hint="the address of a server's API ends in /api",
        ) from None
    return version


def _refuse_too_old(version: str) -> None:
    match = re.match(r"(\d+)\.(\d+)", version)
    if not match or (int(match[1]), int(match[2])) < OLDEST:
        raise Refused(
            f"the server runs Prefect {version}, which is too old",
            hint=f"upgrade it: pip install 'prefect{compat.MADE_FOR}'",
        )


async def make(api: Api, pool: str, queues: Iterable[str] = QUEUES) -> list[str]:
    """Have the work pool and its queues there; gives the queues that had to be made.

    Raises Refused when a pool of that name has another type.
    """
    made: list[str] = []
    try:
        found = await pools.read(api, pool)
    except NotFound:
        found = await pools.ensure(api, pool, base_job_template())
    if found["type"] != pools.TYPE:
        raise Refused(
            f"the work pool {pool!r} is of type {found['type']!r}, not {pools.TYPE!r}",
            hint="CLEARFLOW_POOL names another one",
        )
    there = {queue.name for queue in await pools.queues(api, pool)}
    for name in queues:
        if name in there:
            continue
        try:
            await pools.create_queue(api, pool, name, description=_DESCRIPTIONS.get(name, ""))
        except Conflict:
            continue  # another person has just made it
        made.append(name)
    return made
