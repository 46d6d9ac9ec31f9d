"""The door to Docker: the Engine's own API, and the containers of tasks found by their labels.

Every container carries its claim, its agent and that agent's home. The Engine removes it as soon
as it has ended, and whoever finds its supervisor dead ends it. The calls here block.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearflow.errors import ClearflowError, NotFound

CLAIM, AGENT, HOME = "clearflow.claim", "clearflow.agent", "clearflow.home"

_PATIENCE = 30.0  # seconds that the Engine has for removing a container
_PROGRESS = 5.0  # seconds between two lines about a pull


class NoDocker(ClearflowError):
    """Docker does not answer."""


@dataclass(frozen=True)
class Image:
    """An image that is here. `env` is what it sets."""

    id: str
    env: Mapping[str, str]


def warm_up() -> None:
    """Import what talks to Docker, before it is forked and has to be quick."""
    import docker  # noqa: F401


def labels(token: str, agent: str, home: Path) -> dict[str, str]:
    return {CLAIM: token, AGENT: agent, HOME: str(home.resolve())}


class Engine:
    """A connection to the Docker Engine of this machine, for one thread at a time.

    Raises NoDocker when it does not answer, in each of its calls too.
    """

    def __init__(self, timeout: float = 60.0) -> None:
        host = os.environ.get("DOCKER_HOST") or ""
        if host and not host.startswith("unix://"):
            raise NoDocker(
                f"DOCKER_HOST={host}: the Docker Engine has to be on this machine",
                hint="tasks are mounted from here; unset it, or name a unix:// socket",
            )
        try:
            import docker
        except ImportError:
            raise NoDocker(
                "the package docker is not installed", hint="`pip install 'clearflow[docker]'`"
            ) from None
        # A proxy of ~/.docker/config.json is for the Engine's own builds.
        settings = docker.utils.kwargs_from_env()
        with _said():
            self._api = docker.APIClient(
                **settings, version="auto", timeout=timeout, use_ssh_client=False
            )

    def close(self) -> None:
        self._api.close()

    def ping(self) -> None:
        """Make sure that it answers."""
        with _said():
            self._api.ping()

    def image(self, name: str, say: Callable[[str], None]) -> Image:
        """The image of this name; pulled, with its progress told, when it is not here.

        Raises ClearflowError when it cannot be had.
        """
        try:
            return self._inspect(name)
        except NotFound:
            self._pull(name, say)
            return self._inspect(name)

    def _inspect(self, name: str) -> Image:
        with _said(f"the image {name}"):
            found = self._api.inspect_image(name)
        env = (found.get("Config") or {}).get("Env") or ()
        return Image(found["Id"], dict(line.partition("=")[::2] for line in env))

    def _pull(self, name: str, say: Callable[[str], None]) -> None:
        say(f"Pulling the image {name}")
        repository, tag = _split(name)
        layers: dict[str, tuple[int, int]] = {}
        told = began = time.monotonic()
        with _said(f"the image {name}", "could not be pulled"):
            for event in self._api.pull(repository, tag=tag, stream=True, decode=True):
                if "error" in event:
                    raise ClearflowError(
                        f"the image {name} could not be pulled: {_first_line(event['error'])}"
                    )
                detail = event.get("progressDetail") or {}
                if event.get("status") == "Downloading" and "total" in detail:
                    layers[event["id"]] = (detail["current"], detail["total"])
                if layers and time.monotonic() - told > _PROGRESS:
                    told = time.monotonic()
                    here, whole = (sum(each) / 1e6 for each in zip(*layers.values(), strict=True))
                    say(f"  {here:.0f} of {whole:.0f} MB")
        say(f"Pulled the image {name} in {time.monotonic() - began:.1f} s")

    def create(self, config: Mapping[str, Any]) -> str:
        """Make a container by the Engine's own description of it; its id."""
        with _said("the container", "could not be made"):
            return str(self._api.create_container_from_config(dict(config))["Id"])

    def attach(self, container: str) -> Any:
        """A stream of what it prints, to be read by `copy`; attached before it starts."""
        with _said("the container", "could not be attached to"):
            return self._api.attach_socket(container)

    def start(self, container: str) -> None:
        with _said("the container", "could not be started"):
            self._api.start(container)

    def exit_code(self, container: str) -> int:
        """Wait for the end of a container that the Engine does not remove by itself."""
        with _said("the container", "was lost"):
            return int(self._api.wait(container, timeout=None)["StatusCode"])

    def pause(self, container: str, paused: bool) -> None:
        with _said("the container"):
            (self._api.pause if paused else self._api.unpause)(container)

    def remove(self, container: str) -> None:
        """End a container and remove it with its anonymous volumes; returns when it is gone.

        Does nothing for one that is not there.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with _said(f"the container {container[:12]}", "could not be removed"):
                    self._api.remove_container(container, force=True, v=True)
            except NotFound:
                return
            except NoDocker:
                raise
            except ClearflowError:
                # The Engine is removing it already, or has a moment of its own.
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def remove_claim(self, token: str) -> None:
        """Remove whatever runs for a claim."""
        for found in self._labelled(f"{CLAIM}={token}"):
            self.remove(found["Id"])

    def remove_left(self, agent: str, home: Path, alive: Collection[str]) -> list[str]:
        """Remove the containers of an agent that belong to no claim in `alive`; their claims."""
        found = self._labelled(f"{AGENT}={agent}", f"{HOME}={home.resolve()}")
        left = [each for each in found if each["Labels"].get(CLAIM) not in alive]
        for each in left:
            self.remove(each["Id"])
        return [each["Labels"].get(CLAIM, "") for each in left]

    def _labelled(self, *wanted: str) -> list[dict[str, Any]]:
        with _said("the containers", "could not be listed"):
            return list(self._api.containers(all=True, filters={"label": list(wanted)}))


def copy(stream: Any, output: int) -> None:
    """Copy what a container prints into a pipe, until it has ended; closes both.

    The Engine sends it in frames: which of the two streams, three bytes of nothing, the length.
    """
    try:
        while head := _exactly(stream, 8):
            data = _exactly(stream, int.from_bytes(head[4:], "big"))
            while data:
                data = data[os.write(output, data) :]
    except OSError:
        pass  # nobody reads any more, or the Engine is gone
    finally:
        os.close(output)
        with contextlib.suppress(OSError):
            stream.close()


def _exactly(stream: Any, count: int) -> bytes:
    """So many bytes; fewer at the end."""
    found = b""
    while len(found) < count and (chunk := stream.read(count - len(found))):
        found += chunk
    return found


def _split(name: str) -> tuple[str, str | None]:
    """Repository and tag; a digest stays with the repository."""
    if "@" in name:
        return name, None
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag or "latest"


@contextlib.contextmanager
def _said(what: str = "Docker", failed: str = "failed") -> Iterator[None]:
    """The Engine's errors as ours, in one line."""
    from docker import errors
    from requests import exceptions

    try:
        yield
    except errors.NotFound as error:
        raise NotFound(f"{what} {failed}: {_first_line(error.explanation)}") from None
    except errors.APIError as error:
        raise ClearflowError(f"{what} {failed}: {_first_line(error.explanation)}") from None
    except (errors.DockerException, exceptions.RequestException) as error:
        where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        raise NoDocker(
            f"Docker does not answer at {where}: {_cause(error)}",
            hint="is the Docker Engine running here, and is this user in the group `docker`?",
        ) from None


def _first_line(text: object) -> str:
    return " ".join(str(text or "no reason given").split())[:500]


def _cause(error: BaseException) -> str:
    """What the system said, below the layers of the client."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        inner = [a for a in found.args if isinstance(a, BaseException)]
        found = inner[0] if inner else found.__cause__ or found.__context__
    return _first_line(error)
