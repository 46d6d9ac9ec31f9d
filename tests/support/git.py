"""Real repositories: working copies, remotes, and a daemon that serves them as a host would."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import wait_until

_WHO = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *words: str) -> str:
    """What git prints. Raises CalledProcessError."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | _WHO
    config = ("-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *config, *words], cwd=folder, env=env, check=True, capture_output=True
    )
    return os.fsdecode(done.stdout).strip()


def files(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Every file below a folder, without git's own: its kind and its bytes."""
    found: dict[str, tuple[str, bytes]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if f != ".git"]
        links = [f for f in folders if (Path(place) / f).is_symlink()]
        for name in [*names, *links]:
            path = Path(place) / name
            if name == ".git":
                continue
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = ("link", os.fsencode(os.readlink(path)))
            else:
                kind = "program" if path.stat().st_mode & 0o100 else "file"
                found[key] = (kind, path.read_bytes())
    return found


@contextlib.contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """Serve the repositories below a folder; gives the address under which they are."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    words = ["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={port}"]
    daemon = subprocess.Popen(
        ["git", *words, f"--base-path={folder}", str(folder)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_until(answers, what="git daemon to answer")
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(daemon.pid, 9)
        daemon.wait()
