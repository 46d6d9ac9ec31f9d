"""What a task asks of the machine that runs it, and whether it may still be changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from clearflow.client import door
from clearflow.client.later import Later
from clearflow.client.values import Values
from clearflow.errors import Usage
from clearflow.words.tagging import ARCHIVED

if TYPE_CHECKING:
    import shlex
else:
    shlex = Later("shlex")


class Needs(Values):
    """The part of a task that is settled before it starts."""

    _required: ClassVar[list[str]] = []

    def set_base_docker(
        self,
        docker_image: str | None = None,
        docker_arguments: str | Sequence[str] | None = None,
        docker_setup_bash_script: str | Sequence[str] | None = None,
    ) -> None:
        """The image that it runs in, arguments of `docker run`, and a script that runs before it.

        None leaves as it is. Raises Refused for a task that has been started.
        """
        self._ask_for(**docker_job(docker_image, docker_arguments, docker_setup_bash_script))

    def get_base_docker(self) -> str | None:
        """The image and the arguments, as `set_base_docker` takes them in one text."""
        job = self._see()["job"]
        words = [str(job[k]) for k in ("image", "docker_args") if job.get(k)]
        return " ".join(words) or None

    def set_packages(self, packages: Sequence[str] | str | Path) -> None:
        """The requirements of its environment: a list of lines, or a file of them."""
        if isinstance(packages, (str, Path)):
            packages = Path(packages).read_text().splitlines()
        self._ask_for(requirements=list(packages))

    @classmethod
    def add_requirements(cls, package_name: str, package_version: str | None = None) -> None:
        """A package that the task needs too: of the task of this program, or of the next one.

        The version is such as `1.2.3` or `>=1.2`. A path names a file of requirements. In a task
        that an agent runs they are there.
        """
        if door.inside():
            return
        lines = [_requirement(package_name, package_version)]
        if package_version is None and Path(package_name).is_file():
            lines = Path(package_name).read_text().splitlines()
        current = cls.current_task()
        if current is None:
            Needs._required += lines
        else:
            current._need(lines)

    @classmethod
    def ignore_requirements(cls, package_name: str) -> None:
        """Of ClearML: what a program has imported is taken as it is here."""
        raise Usage(
            f"{package_name} cannot be left out of what the program has imported",
            hint="set_packages names all that a task needs",
        )

    @classmethod
    def current_task(cls) -> Any:
        """The task that this program is; None when it is none."""
        return None

    def _need(self, lines: Sequence[str]) -> None:
        known = self._see()["job"].get("more_requirements") or []
        self._ask_for(more_requirements=[*known, *(line for line in lines if line not in known)])

    def _ask_for(self, **job: Any) -> None:
        door.ask("change", task=self.id, job=job)

    # -- what is settled ------------------------------------------------------------------------

    def publish(self, ignore_errors: bool = True) -> bool:
        """Have it stay as it is, and never be cleaned up. Raises Refused while it runs."""
        door.ask("publish", task=self.id)
        return True

    def set_archived(self, archive: bool) -> None:
        """Put it away, or take it back: archived tasks are found by the tag `archived` alone."""
        others = [t for t in self.get_tags() if t != ARCHIVED]
        self.set_tags([*others, ARCHIVED] if archive else others)

    def get_archived(self) -> bool:
        """Whether it was put away."""
        return ARCHIVED in self.get_tags()


def docker_job(
    image: str | None,
    arguments: str | Sequence[str] | None,
    setup: str | Sequence[str] | None,
) -> dict[str, Any]:
    """The job variables that ClearML's words for Docker stand for; `image` may hold arguments."""
    job: dict[str, Any] = {}
    if image is not None:
        name, _, more = image.strip().partition(" ")
        job["image"] = name
        if more:
            job["docker_args"] = more
    if arguments is not None:
        words = arguments if isinstance(arguments, str) else shlex.join(arguments)
        job["docker_args"] = f"{job.get('docker_args', '')} {words}".strip()
    if setup is not None:
        job["setup_script"] = setup if isinstance(setup, str) else "\n".join(setup)
    return job


def _requirement(name: str, version: str | None) -> str:
    if version is None:
        return name
    return f"{name}{version}" if version[:1] in "<>=!~@" else f"{name}=={version}"
