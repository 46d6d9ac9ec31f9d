"""Objects as files: how a task's artifacts are stored, and how they are objects again."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

from clearflow.errors import Refused, Usage

LARGEST = 16_000_000  # bytes
_PREVIEW = 1000  # characters


@dataclass(frozen=True)
class Packed:
    """An object as a file of this name; `type` says what it was."""

    type: str
    file: str
    content: bytes
    preview: str = ""

    def item(self, name: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """As it is sent. Raises Refused when it is too large."""
        if len(self.content) > LARGEST:
            raise Refused(
                f"the artifact {name!r} has {len(self.content) / 1e6:.0f} MB: at most"
                f" {LARGEST / 1e6:.0f} MB go through Prefect",
                hint="keep it where its readers can reach it, and upload its address",
            )
        return {
            "kind": "artifacts",
            "name": name,
            "type": self.type,
            "size": len(self.content),
            "preview": self.preview[:_PREVIEW],
            "hash": hashlib.sha256(self.content).hexdigest(),
            "file": self.file,
            "metadata": json.dumps(metadata, default=str) if metadata else "",
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017
            "content": base64.b64encode(self.content).decode(),
        }


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
        size = path.stat().st_size / 1e6
        raise Refused(
            f"{path} has {size:.0f} MB: at most {LARGEST / 1e6:.0f} MB go through Prefect",
            hint="keep it where its readers can reach it, and upload its address",
        )
    return Packed("file", path.name, path.read_bytes(), str(path))


def _folder(path: Path) -> Packed:
    made = io.BytesIO()
    files = sorted(f for f in path.rglob("*") if f.is_file())
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(path).as_posix())
            if made.tell() > LARGEST:
                raise Refused(
                    f"the folder {path} is too large: at most {LARGEST / 1e6:.0f} MB, zipped, go"
                    " through Prefect",
                    hint="keep it where its readers can reach it, and upload its address",
                )
    names = "\n".join(f.relative_to(path).as_posix() for f in files)
    return Packed("archive", f"{path.resolve().name}.zip", made.getvalue(), names)


def unpack(type: str, file: str, content: bytes) -> Any:
    """The object again; for files and folders their path, in a folder of its own.

    What was pickled is made by the code that the pickle names: trust whoever ran the task.
    """
    if type == "string":
        return content.decode()
    if type == "JSON":
        return json.loads(content)
    if type == "pickle":
        return pickle.loads(content)
    if type == "numpy":
        return import_module("numpy").load(io.BytesIO(content), allow_pickle=False)["data"]
    if type == "pandas":
        return import_module("pandas").read_csv(io.BytesIO(content), index_col=0)
    if type == "image":
        return import_module("PIL.Image").open(io.BytesIO(content))
    return local_copy(type, file, content)


def local_copy(type: str, file: str, content: bytes, extract: bool = True) -> Path:
    """The content in a file, or a folder, of its own."""
    place = Path(tempfile.mkdtemp(prefix="artifact-"))
    if type == "archive" and extract:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(place)
        return place
    copy = place / (Path(file).name or "artifact")
    copy.write_bytes(content)
    return copy
