"""Artifacts: what is packed and unpacked again is the same."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearflow.client import packing
from clearflow.errors import Usage

simple = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@dataclasses.dataclass
class Model:
    weights: list[float]


def fetched(packed: packing.Packed) -> Path:
    """As it arrives at whoever asks for it."""
    file = packing.place_for(packed.file)
    file.write_bytes(b"".join(packed.pieces()))
    return file


def again(thing):
    packed = packing.pack("thing", thing)
    return packing.unpack(packed.type, fetched(packed))


@given(simple)
def test_an_object_is_the_same_again(thing):
    if isinstance(thing, str) and Path(thing[:200].replace("\0", "")).exists():
        return  # the name of something that is there
    back = again(thing)
    assert back == thing
    assert type(back) is type(thing)


@pytest.mark.parametrize(
    ("thing", "type"),
    [
        ("a text", "string"),
        ({"lr": 0.1, "layers": [1, 2]}, "JSON"),
        ([1, 2], "JSON"),
        ((1, 2), "pickle"),
        ({1: 2}, "pickle"),
        (Model([1.0]), "pickle"),
    ],
)
def test_what_kind_it_is(thing, type):
    assert packing.pack("thing", thing).type == type
    assert again(thing) == thing


def test_arrays():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    packed = packing.pack("array", array)
    assert (packed.type, packed.file) == ("numpy", "array.npz")
    back = again(array)
    assert back.dtype == array.dtype
    assert (back == array).all()
    assert (again(np.array([{"a": 1}])) == np.array([{"a": 1}])).all()


def test_files_and_folders(tmp_path: Path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "x.txt").write_text("x")
    (tmp_path / "data" / "y.bin").write_bytes(b"\0y")
    file = packing.pack("file", str(tmp_path / "data" / "y.bin"))
    assert (file.type, file.file) == ("file", "y.bin")
    assert packing.local_copy(file.type, fetched(file)).read_bytes() == b"\0y"
    folder = packing.pack("folder", tmp_path / "data")
    assert (folder.type, folder.preview) == ("archive", "deep/x.txt\ny.bin")
    copy = packing.local_copy(folder.type, fetched(folder))
    assert (copy / "deep" / "x.txt").read_text() == "x"
    whole = packing.local_copy(folder.type, fetched(folder), extract=False)
    assert whole.name == "data.zip"
    with pytest.raises(Usage):
        packing.pack("none", tmp_path / "none")


def test_what_is_large_and_what_cannot_be_stored(tmp_path: Path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(packing.LARGEST + 1)
    packed = packing.pack("large", large)
    assert packed.large
    assert packed.content == b"", "a large file is not read into memory"
    assert "content" not in packed.item("large", None)
    text = packing.pack("text", "x" * 17_000_000)
    assert text.large
    assert sum(map(len, text.pieces())) == text.size == 17_000_000
    with pytest.raises(Usage, match="cannot be stored"):
        packing.pack("function", lambda: None)
    with pytest.raises(Usage, match="can only be pickled"):
        packing.pack("tuple", (1, 2), auto_pickle=False)


def test_an_item_says_what_is_in_it():
    item = packing.pack("text", "abc").item("text", {"by": "me"})
    assert (item["size"], item["preview"], item["type"]) == (3, "abc", "string")
    assert item["hash"].startswith("ba7816bf")
