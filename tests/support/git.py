"""Real repositories: working copies, remotes, and a daemon that serves them as a host would."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
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


class Laptop:
    """A working copy, its remote, and what a user does with them."""

    def __init__(self, folder: Path, remotes: Path, address: str) -> None:
        self.root = folder / "copy"
        self.remote = Path(tempfile.mkdtemp(dir=remotes)) / "project.git"
        git(folder, "init", "-q", "--bare", str(self.remote))
        self.url = f"{address}/{self.remote.relative_to(remotes)}"
        self.root.mkdir()
        git(self.root, "init", "-q")
        git(self.root, "remote", "add", "origin", self.url)
        git(self.root, "remote", "set-url", "--push", "origin", str(self.remote))

    def write(self, name: str, content: bytes, program: bool = False) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        path.write_bytes(content)
        path.chmod(0o755 if program else 0o644)

    def link(self, name: str, to: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(to)

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def rename(self, name: str, to: str) -> None:
        path = self.root / name
        if name != to and path.exists() and not path.is_symlink():
            (self.root / to).parent.mkdir(parents=True, exist_ok=True)
            (self.root / to).unlink(missing_ok=True)
            path.rename(self.root / to)

    def ignore(self, pattern: str) -> None:
        self.write(".gitignore", pattern.encode())

    def stage(self) -> None:
        git(self.root, "add", "--all")

    def commit(self) -> None:
        git(self.root, "commit", "-q", "--allow-empty", "-m", "work", "-a")

    def save(self) -> None:
        """Commit everything."""
        self.stage()
        self.commit()

    def push(self) -> None:
        if self.committed:
            git(self.root, "push", "-q", "origin", "HEAD:main")

    @property
    def committed(self) -> bool:
        return bool(git(self.root, "rev-list", "--max-count=1", "--all"))

    def submodule(self, name: str) -> None:
        """Another repository inside, with a change of its own that nobody has committed."""
        inner = self.root / name
        if inner.exists():
            return
        inner.mkdir(parents=True)
        git(inner, "init", "-q")
        (inner / "inside.py").write_text("1")
        git(inner, "add", "--all")
        git(inner, "commit", "-q", "-m", "inside")
        (inner / "changed.py").write_text("2")

    def seen(self) -> dict[str, tuple[str, bytes]]:
        """What another machine should have: everything but what is ignored."""
        hidden = self._listed("ls-files", "-z", "-o", "-i", "--exclude-standard")
        whole = tuple(name for name in hidden if name.endswith("/"))
        return {
            name: file
            for name, file in files(self.root).items()
            if name not in hidden and not (whole and name.startswith(whole))
        }

    def _listed(self, *words: str) -> list[str]:
        return git(self.root, *words).split("\0")

    def untouched(self) -> object:
        """What a snapshot must leave as it is."""
        index = self.root / ".git/index"
        objects = sorted(p for p in (self.root / ".git").rglob("*") if p.is_file())
        return index.read_bytes() if index.exists() else None, objects, files(self.root)
