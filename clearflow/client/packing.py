"""Objects as files: how a task's artifacts are stored, and how they are objects again."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

from clearflow.errors import Usage

LARGEST = 16_000_000  # bytes that go through Prefect
PIECE = 1 << 20  # bytes
_PREVIEW = 1000  # characters


@dataclass(frozen=True)
class Packed:
    """An object as a file of this name; `type` says what it was.

    A large file is not read: it is in `source`, and `content` is empty.
    """

    type: str
    file: str
    content: bytes = b""
    preview: str = ""
    source: Path | None = None

    @property
    def size(self) -> int:
        return len(self.content) if self.source is None else self.source.stat().st_size

    @property
    def large(self) -> bool:
        """Whether it goes to the store, and not through Prefect."""
        return self.size > LARGEST

    def pieces(self) -> Iterator[bytes]:
        """The content, piece by piece."""
        with io.BytesIO(self.content) if self.source is None else self.source.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    def item(self, name: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """As it is sent; a large one without its content."""
        made = hashlib.sha256()
        for piece in self.pieces():
            made.update(piece)
        item = {
            "kind": "artifacts",
            "name": name,
            "type": self.type,
            "size": self.size,
            "preview": self.preview[:_PREVIEW],
            "hash": made.hexdigest(),
            "file": self.file,
            "metadata": json.dumps(metadata, default=str) if metadata else "",
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017
        }
        if not self.large:
            item["content"] = base64.b64encode(self.content).decode()
        return item


def pack(name: str, thing: Any, auto_pickle: bool = True) -> Packed:
    """An object of any kind as a file.

    Paths stand for the files and folders there; text, and what JSON gives back as it was, is
    stored as that; arrays, data frames and images in formats that others read; all else pickled.

    Raises Usage for what cannot be stored.
    """
    if isinstance(thing, (str, Path)) and (path := _existing(thing)) is not None:
        return _folder(path) if path.is_dir() else _file(path)
    if isinstance(thing, Path):
        raise Usage(f"there is no {thing}")
    stem = "".join(c if c.isalnum() or c in "-_. " else "_" for c in name) or "artifact"
    if isinstance(thing, str):
        return Packed("string", f"{stem}.txt", thing.encode(), thing)
    made = io.BytesIO()
    if _is(thing, "numpy", "ndarray") and thing.dtype.kind != "O":
        sys.modules["numpy"].savez_compressed(made, data=thing)
        return Packed(
            "numpy", f"{stem}.npz", made.getvalue(), f"{thing.dtype} {thing.shape}\n{thing}"
        )
    if _is(thing, "pandas", "DataFrame"):
        text = thing.to_csv().encode()
        return Packed("pandas", f"{stem}.csv", text, str(thing.describe(include="all")))
    if _is(thing, "PIL", "Image"):
        thing.save(made, format="PNG")
        return Packed("image", f"{stem}.png", made.getvalue(), f"{thing.mode} {thing.size}")
    text = _json(thing)
    if text is not None:
        return Packed("JSON", f"{stem}.json", text.encode(), text)
    if not auto_pickle:
        raise Usage(
            f"a {type(thing).__name__} can only be pickled, which auto_pickle=False forbids"
        )
    try:
        return Packed("pickle", f"{stem}.pkl", pickle.dumps(thing), repr(thing)[:_PREVIEW])
    except Exception as error:  # what pickle raises is up to the object
        raise Usage(f"a {type(thing).__name__} cannot be stored: {error}") from None


def _existing(given: str | Path) -> Path | None:
    try:
        path = Path(given).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # a long text is no path
        return None


def _is(thing: Any, library: str, name: str) -> bool:
    """Whether it is of such a class, without importing the library."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == library
        for kind in type(thing).__mro__
    )


def _json(thing: Any) -> str | None:
    try:
        text = json.dumps(thing, indent=1, ensure_ascii=False)
        same = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return text if same == thing and type(same) is type(thing) else None


def _file(path: Path) -> Packed:
    if path.stat().st_size > LARGEST:
        return Packed("file", path.name, preview=str(path), source=path)
    return Packed("file", path.name, path.read_bytes(), str(path))


def _folder(path: Path) -> Packed:
    files = sorted(f for f in path.rglob("*") if f.is_file())
    names = "\n".join(f.relative_to(path).as_posix() for f in files)
    name = f"{path.resolve().name}.zip"
    # The file lives as long as somebody reads it: until the program ends at the latest.
    made = Path(tempfile.mkdtemp(prefix="artifact-")) / name
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(path).as_posix())
    if made.stat().st_size > LARGEST:
        return Packed("archive", name, preview=names, source=made)
    content = made.read_bytes()
    shutil.rmtree(made.parent)
    return Packed("archive", name, content, names)


def unpack(type: str, file: Path) -> Any:
    """The object again, of its file; for files and folders their path.

    What was pickled is made by the code that the pickle names: trust whoever ran the task.
    """
    if type in {"file", "archive", "media"}:
        return local_copy(type, file)
    if type == "numpy":
        return import_module("numpy").load(file, allow_pickle=False)["data"]
    if type == "pandas":
        return import_module("pandas").read_csv(file, index_col=0)
    if type == "image":
        return import_module("PIL.Image").open(io.BytesIO(file.read_bytes()))
    if type in {"string", "JSON", "pickle"}:
        content = file.read_bytes()
        shutil.rmtree(file.parent)
        if type == "pickle":
            return pickle.loads(content)
        return content.decode() if type == "string" else json.loads(content)
    return local_copy(type, file)


def local_copy(type: str, file: Path, extract: bool = True) -> Path:
    """The file; of a folder, a folder with all that was in it."""
    if type != "archive" or not extract:
        return file
    place = file.with_name(f"{file.name}.d")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(place)
    return place


def place_for(name: str) -> Path:
    """Where a file of this name can be put: a folder of its own."""
    return Path(tempfile.mkdtemp(prefix="artifact-")) / (Path(name).name or "artifact")
