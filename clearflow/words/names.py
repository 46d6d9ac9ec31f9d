"""Names of any kind (spaces, slashes, quotes, emoji) in places that allow few characters."""

from __future__ import annotations

import hashlib
import re
import socket
import unicodedata

# Prefect refuses these in the names of flows, deployments and queues.
_FULL_WIDTH = str.maketrans({"/": "／", "%": "％", "&": "＆", "<": "＜", ">": "＞"})
_HALF_WIDTH = str.maketrans({v: chr(k) for k, v in _FULL_WIDTH.items()})


def slug(name: str, limit: int = 40) -> str:
    """A key made of `[a-z0-9-]` for any name: readable, and unique by 8 hex of the true name."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:limit].strip("-")
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{words}-{digest}" if words else digest


def stored(name: str) -> str:
    """The name as Prefect keeps it: characters that it refuses in their full-width form."""
    return name.translate(_FULL_WIDTH)


def shown(name: str) -> str:
    """The true name of one that Prefect keeps: the inverse of `stored`."""
    return name.translate(_HALF_WIDTH)


def flow_name(project: str, name: str) -> str:
    """The name of the Prefect flow for tasks of this project and name."""
    return stored(f"{project} · {name}")


SERVICES = "services"
"""The queue of light controllers."""
COLD = "cold"
"""What a launcher is told that is to import Prefect only when a flow comes."""

# The deployment of a task that is started from none of the user's.
DEPLOYMENT = "clearflow"


# The tag of a run that some program is by itself: no agent has it, and no queue.
HERE = "clearflow:here"

# The label that holds job variables which somebody has changed since the run was made, as JSON:
# Prefect changes those of a run that is scheduled, and no others.
ASKS = "clearflow.asks"

# How tags begin, and labels, that a task has as the step of a pipeline; its copies have them not.
# The last is how the tag of a search's trials begins.
OF_SEARCHES = "search:"
OF_STEPS = ("pipeline:", "cache:", OF_SEARCHES)
STEP = "clearflow.step"

# How tags begin, and labels, that a task has of what has launched it: the unique key of that
# launch, and who did it (a schedule, a trigger). Its copies have them not.
OF_LAUNCHES = ("launch:", "origin:")
LAUNCHED = "clearflow.launched"

# Of a task whose reports are told as events, as somebody waits for them: a trial.
REPORTS = f"{LAUNCHED}.reports"
REPORTED = "clearflow.task.reported"

# The label of a task that is a controller, and what it says of one of trials.
CONTROLS = "clearflow.controls"
SEARCH = "search"

# Said on the event stream of a pool when such a run begins; the payload names its claim.
BEGAN = "clearflow.task.began"


def tags(project: str | None, owner: str | None = None) -> list[str]:
    """What a task's run, or its deployment, is found by."""
    found = {"project": project, "user": owner}
    return [f"{key}:{value}" for key, value in found.items() if value is not None]


def labels(name: str, project: str | None) -> dict[str, str]:
    """The true names of a task and its project, in which no character is replaced."""
    return {"clearflow.name": name} | (
        {"clearflow.project": project} if project is not None else {}
    )


def agent_name(number: int = 0, host: str | None = None) -> str:
    """The name of the agent with this number on a machine, such as `gpu-box:0`."""
    return f"{stored(host or socket.gethostname())}:{number}"


def rendezvous(agent: str, key: str) -> float:
    """How far this agent is from the key, in [0, 1): the nearest agent acts first.

    Highest-random-weight hashing (Thaler and Ravishankar, 1998): every agent computes its own
    distance, none needs to know the others.
    """
    digest = hashlib.blake2b(f"{agent}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
