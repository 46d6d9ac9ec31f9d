"""A real Docker Engine in a folder of its own, and a small image with this machine's Python."""

import contextlib
import gzip
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
from uv import find_uv_bin

from tests.support.processes import clean_environment
from tests.support.waiting import wait_until

IMAGE = "clearflow-test:python"

_PROGRAMS = ("/bin/sh", "/bin/sleep", "/bin/cat")
_LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "ensurepip", "lib2to3"}
_FOLDERS = ("dev", "proc", "sys", "tmp", "run", "root", "var/tmp", "etc")


class DockerEngine:
    """One `dockerd` on a socket of its own, without a bridge and without firewall rules.

    Containers without `--network=host` have no network.
    """

    def __init__(self) -> None:
        # The path of a socket has to be short, and what the Engine stores must be on a real disk.
        self.folder = Path(tempfile.mkdtemp(prefix="clearflow-docker-"))
        self.host = f"unix://{self.folder / 'socket'}"
        self.log = self.folder / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None

    @cached_property
    def api(self) -> Any:
        """A client of this Engine."""
        return docker.APIClient(self.host, version="auto")

    def start(self) -> None:
        """Return when it answers."""
        # Also when pytest is killed, and ends nothing.
        words = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            "dockerd",
            "--host",
            self.host,
            "--shutdown-timeout",
            "2",
        ]
        words += ["--storage-driver=overlay2", "--bridge=none", "--iptables=false"]
        words += ["--ip6tables=false", "--data-root", str(self.folder / "data")]
        words += ["--exec-root", str(self.folder / "exec")]
        words += ["--pidfile", str(self.folder / "pid")]
        with self.log.open("ab") as console:
            self._process = subprocess.Popen(
                words,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._answers, timeout=30, what="dockerd to answer")

    def _answers(self) -> bool:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            said = self.log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"dockerd ended with code {code}:\n{said}")
        with contextlib.suppress(docker.errors.DockerException):
            return (self.folder / "socket").exists() and bool(self.api.ping())
        return False

    def stop(self) -> None:
        """Shut it down; what is stored stays for the next start."""
        if self._process is None:
            return
        with contextlib.suppress(docker.errors.DockerException):
            for each in self.containers():
                self.api.remove_container(each["Id"], force=True, v=True)
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def containers(self) -> list[dict[str, Any]]:
        """All there are, running or not."""
        return list(self.api.containers(all=True))

    def states(self) -> list[str]:
        """What each of them does: running, paused, exited…"""
        return [str(each["State"]) for each in self.containers()]

    def mounts(self) -> list[str]:
        """What is mounted below its folder: a line for each container."""
        mounted = Path("/proc/self/mounts").read_text().splitlines()
        return [line for line in mounted if str(self.folder) in line and "overlay" in line]

    def make_image(self, name: str = IMAGE) -> None:
        """An image with this very Python, a shell and little else."""
        repository, tag = name.split(":")
        self.api.import_image_from_data(_root_folder(), repository=repository, tag=tag)

    def __enter__(self) -> "DockerEngine":
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if "api" in self.__dict__:
            self.api.close()
        for place in (self.folder / "exec").glob("netns/*"):
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def registry(engine: DockerEngine) -> Iterator[str]:
    """A registry with one image, the small one under another name, which `engine` has not yet."""
    root = _root_folder()
    layer = gzip.compress(root, compresslevel=1)
    config = json.dumps(
        {
            "architecture": engine.api.version()["Arch"],
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(root)]},
        }
    ).encode()
    kind = "application/vnd.docker.{}+json"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": kind.format("distribution.manifest.v2"),
            "config": _described(kind.format("container.image.v1"), config),
            "layers": [_described("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
        }
    ).encode()
    stored = {_digest(each): each for each in (layer, config, manifest)} | {"1": manifest}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.path.rpartition("/")[2]
            content = b"" if self.path == "/v2/" else stored.get(wanted)
            self.send_response(404 if content is None else 200)
            of = "distribution.manifest.v2" if "manifests" in self.path else "any"
            self.send_header("Content-Type", kind.format(of))
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    name = f"127.0.0.1:{server.server_port}/far/away:1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield name
    finally:
        server.shutdown()
        server.server_close()
        with contextlib.suppress(docker.errors.APIError):
            engine.api.remove_image(name, force=True)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": _digest(content)}


def _root_folder() -> bytes:
    """A root folder as an archive: files lie where they lie here."""
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib")).resolve()
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name in _FOLDERS:
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if "tmp" in name else 0o755
                archive.addfile(folder)
            added: set[str] = set()
            programs = [python, *map(Path, _PROGRAMS)]
            modules = sorted((library / "lib-dynload").glob("*.so"))
            # uv is mounted where it is needed.
            needing = [*programs, *modules, Path(find_uv_bin())]
            for each in (*programs, *_libraries(needing)):
                _add(archive, each, added)
            archive.add(library, str(library).lstrip("/"), filter=_wanted)
            _link(archive, "usr/local/bin/python3", str(python))
        return file.getvalue()


def _add(archive: tarfile.TarFile, path: Path, added: set[str]) -> None:
    """A file under this name, and not as the link it may be here."""
    if str(path) not in added:
        added.add(str(path))
        entry = archive.gettarinfo(str(path.resolve()), str(path).lstrip("/"))
        entry.type = tarfile.REGTYPE
        entry.size = path.resolve().stat().st_size
        with path.resolve().open("rb") as content:
            archive.addfile(entry, content)


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    archive.addfile(link)


def _wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = set(Path(entry.name).parts)
    # Tests, and the static library that programs in C link to.
    unwanted = parts & _LEFT_OUT or "config-3" in entry.name or entry.name.endswith(".a")
    return None if unwanted else entry


def _libraries(programs: list[Path]) -> list[Path]:
    """The shared libraries they need, as the loader finds them."""
    found: dict[Path, None] = {}
    listed = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, check=False
    )
    for line in listed.stdout.splitlines():
        for word in line.split():
            if word.startswith("/") and not word.endswith(":"):
                found[Path(word)] = None
    return list(found)
