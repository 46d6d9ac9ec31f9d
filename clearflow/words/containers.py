"""Containers in words: what a task may ask of one, and what an agent allows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from clearflow.errors import Refused, Usage

ROOM = "/clearflow"
"""The folder of a container that is clearflow's own."""

_FACTORS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bkmgt]?)b?", re.IGNORECASE)
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MODES = re.compile(r"(ro|rw|z|Z|nocopy|r?(shared|slave|private))(,|$)")


@dataclass(frozen=True, slots=True)
class Policy:
    """What an agent says about containers.

    `image` is for tasks that name none. `allow` are patterns of images that tasks may name; none
    allows every image. `arguments` hold for each container, as in `docker run`.
    """

    image: str = ""
    allow: tuple[str, ...] = ()
    arguments: str = ""

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Policy:
        return cls(data["image"], tuple(data["allow"]), data["arguments"])

    @property
    def patterns(self) -> tuple[str, ...]:
        """What a task's image has to match; empty when everything goes."""
        return (*self.allow, self.image) if self.allow else ()

    def choose(self, asked: str) -> str:
        """The image of a task. Raises Refused for one that is not allowed."""
        image = asked or self.image
        if not allowed(image, self.patterns):
            raise Refused(
                f"the image {image} is not allowed on this agent ({', '.join(self.allow)})"
            )
        return image


def allowed(image: str, patterns: Sequence[str]) -> bool:
    """Whether an image matches one of these patterns; `python` is `python:latest` as well."""
    names = {image, image if ":" in image.rpartition("/")[2] else f"{image}:latest"}
    return not patterns or any(fnmatchcase(n, p) for n in names for p in patterns)


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of `docker run` that a container can have, in the Engine's own units."""

    binds: tuple[str, ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    ipc: str | None = None
    user: str | None = None
    shm_size: int | None = None
    memory: int | None = None
    nano_cpus: int | None = None
    ulimits: tuple[dict[str, Any], ...] = ()
    privileged: bool = False

    def host_config(self) -> dict[str, Any]:
        """The part of them that the Engine calls HostConfig."""
        found = {
            "Binds": list(self.binds),
            "Mounts": list(self.mounts),
            "NetworkMode": self.network,
            "IpcMode": self.ipc,
            "ShmSize": self.shm_size,
            "Memory": self.memory,
            "NanoCpus": self.nano_cpus,
            "Ulimits": list(self.ulimits),
            "Privileged": self.privileged,
        }
        return {key: value for key, value in found.items() if value}


def options(
    words: str, before: Options | None = None, own: Mapping[str, str] | None = None
) -> Options:
    """Read arguments as `docker run` takes them; `before` holds where they say nothing.

    With `own`, the agent's environment, they are the agent's: it may pass variables on by their
    names, and be privileged. Raises Usage for what cannot be read, Refused for anything else than
    what is listed here.
    """
    found = before or Options()
    rest = _split(words)
    while rest:
        name, value = _next(rest)
        if name == "--privileged":
            if own is None and not found.privileged:
                raise Refused("--privileged is for agents that were started with it")
            found = replace(found, privileged=found.privileged or own is not None)
            continue
        if value is None:
            if not rest:
                raise Usage(f"the Docker argument {name} needs a value")
            value = rest.pop(0)
        found = _READERS[name](found, value, own)
    return found


def _split(words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError as error:
        raise Usage(f"the Docker arguments {words!r} cannot be read: {error}") from None


def _next(rest: list[str]) -> tuple[str, str | None]:
    """The next option under its long name, with its value where both are one word."""
    word = rest.pop(0)
    name, equals, value = word.partition("=")
    if word[:1] == "-" and word[1:2] != "-" and len(name) > 2:
        name, equals, value = word[:2], "=", word[2:].removeprefix("=")
    name = _SHORT.get(name, name)
    if name not in _READERS and name != "--privileged":
        known = ", ".join(sorted({*_READERS, "--privileged"}))
        raise Refused(f"the Docker argument {word!r} is not supported", hint=f"these are: {known}")
    return name, value if equals else None


def size(text: str) -> int:
    """Bytes of a size such as 512m or 8g. Raises Usage."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Usage(f"{text!r} is no size: write it as 512m or 8g")
    return int(float(match[1]) * _FACTORS[match[2].lower()])


Own = Mapping[str, str] | None


def _volume(found: Options, value: str, own: Own) -> Options:
    parts = value.split(":")
    source, target = parts[0], parts[1] if len(parts) > 1 else ""
    sound = source.startswith("/") or _VOLUME.fullmatch(source)
    if not sound or len(parts) > 3 or (len(parts) == 3 and not _MODES.match(parts[2])):
        raise Usage(f"{value!r} is no mount: write it as /HOST/FOLDER:/FOLDER or .../FOLDER:ro")
    _check_target(target)
    return replace(found, binds=(*found.binds, value))


def _mount(found: Options, value: str, own: Own) -> Options:
    fields = dict(part.partition("=")[::2] for part in value.split(","))
    names = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
    fields = {names.get(key, key): text for key, text in fields.items()}
    kind = fields.pop("type", "volume")
    source, target = fields.pop("source", ""), fields.pop("target", "")
    read_only = fields.pop("readonly", "false") in {"", "true", "1"}
    if fields or kind not in {"bind", "volume", "tmpfs"}:
        raise Refused(
            f"the mount {value!r} is not supported", hint="type, source, target, readonly"
        )
    _check_target(target)
    mount = {"Type": kind, "Source": source, "Target": target, "ReadOnly": read_only}
    return replace(found, mounts=(*found.mounts, mount))


def _check_target(target: str) -> None:
    if not target.startswith("/"):
        raise Usage(f"the place {target!r} in the container is no full path")
    if target == ROOM or target.startswith(f"{ROOM}/"):
        raise Refused(f"{ROOM} in the container is clearflow's own")


def _env(found: Options, value: str, own: Own) -> Options:
    name, equals, text = value.partition("=")
    if not equals:
        # Passed on from the agent's environment: a task must not read there what it likes.
        if own is None or name.startswith("PREFECT_"):
            raise Refused(f"-e {name} has no value, and the agent's own is not handed out")
        if name not in own:
            return found
        text = own[name]
    return replace(found, env={**found.env, name: text})


def _gpus(found: Options, value: str, own: Own) -> Options:
    if value != "all":
        raise Refused(
            f"--gpus {value}: the agent hands out its GPUs", hint="ask for GPUs with `gpus: 2`"
        )
    return found  # all that the agent gives to the task, which it gets anyway


def _cpus(found: Options, value: str, own: Own) -> Options:
    try:
        return replace(found, nano_cpus=int(float(value) * 1e9))
    except ValueError:
        raise Usage(f"--cpus {value!r} is no number") from None


def _ulimit(found: Options, value: str, own: Own) -> Options:
    match = re.fullmatch(r"([a-z]+)=(-?\d+)(?::(-?\d+))?", value)
    if match is None:
        raise Usage(f"--ulimit {value!r}: write it as memlock=-1 or nofile=1024:2048")
    limit = {"Name": match[1], "Soft": int(match[2]), "Hard": int(match[3] or match[2])}
    return replace(found, ulimits=(*found.ulimits, limit))


_READERS: dict[str, Callable[[Options, str, Own], Options]] = {
    "--volume": _volume,
    "--mount": _mount,
    "--env": _env,
    "--gpus": _gpus,
    "--cpus": _cpus,
    "--ulimit": _ulimit,
    "--network": lambda found, value, own: replace(found, network=value),
    "--ipc": lambda found, value, own: replace(found, ipc=value),
    "--user": lambda found, value, own: replace(found, user=value),
    "--shm-size": lambda found, value, own: replace(found, shm_size=size(value)),
    "--memory": lambda found, value, own: replace(found, memory=size(value)),
}
_SHORT = {
    "-v": "--volume",
    "-e": "--env",
    "-m": "--memory",
    "-u": "--user",
    "--net": "--network",
}
