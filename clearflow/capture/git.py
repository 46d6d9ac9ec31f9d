"""Git, as a program: how it is called, and what it says when it cannot."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from clearflow.errors import ClearflowError

# Credentials in a URL: `https://user:token@host/…`. An SSH user is part of the address.
_CREDENTIALS = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", re.I)
_SSH = re.compile(r"^(ssh|git\+ssh)://", re.I)
_SCP = re.compile(r"^[^/:]+:(?!//)")


class GitFailed(ClearflowError):
    """Git could not do what was asked; the message is git's own."""


def git(
    *words: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    given: str | None = None,
    settings: Sequence[str] = (),
) -> str:
    """What git prints, without the last line's end. Raises GitFailed with what it says.

    Nothing asks for a password, no lock of the user's is taken where git can do without, and
    variables such as GIT_DIR, which a hook would leave behind, do not count.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in _KEPT}
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}
    command = ["git", *(w for s in settings for w in ("-c", s)), *words]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**clean, **quiet, **(env or {})},
            input=given.encode(errors="surrogateescape") if given is not None else None,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
        )
    except FileNotFoundError:
        if not cwd.is_dir():
            raise GitFailed(f"there is no folder {cwd}") from None
        raise GitFailed("git is not installed", hint="install git, and try again") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise GitFailed(f"git {words[0]}: {said or f'exit code {done.returncode}'}")
    return os.fsdecode(done.stdout).removesuffix("\n")


def attempt(*words: str, cwd: Path) -> str | None:
    """What git prints; None when it cannot say."""
    try:
        return git(*words, cwd=cwd)
    except GitFailed:
        return None


# How git reaches a remote is the user's; where it works is ours.
_KEPT = {
    "GIT_ASKPASS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_SSL_NO_VERIFY",
}


def without_credentials(url: str) -> str:
    """The address of a remote without the secrets that people put into it."""
    return url if _SSH.match(url) else _CREDENTIALS.sub(r"\1", url)


def elsewhere(url: str) -> bool:
    """Whether other machines can reach a remote: it is not a folder of this one."""
    return bool(_SCP.match(url)) or ("://" in url and not url.startswith("file://"))


def clone(url: str, place: Path, *, branch: str | None = None, commit: str | None = None) -> None:
    """A copy of a repository in the folder `place`, at a branch and a commit.

    Raises GitFailed for a repository, a branch or a commit that is not to be had.
    """
    where = ("--branch", branch) if branch is not None else ()
    git("clone", "--quiet", *where, "--", url, str(place), cwd=place.parent)
    if commit is not None:
        git("checkout", "--quiet", "--detach", commit, cwd=place)
