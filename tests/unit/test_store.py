"""The store over a folder, and over S3 as moto answers it."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearflow.errors import Conflict, NotFound, Refused, ServerError
from clearflow.store import Store
from clearflow.words.places import Place, options_of


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, object]]:
    """The address of an S3, with a bucket `bench`, as options of fsspec."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = options_of(
        "minio-credentials",
        {
            "minio_root_user": "user",
            "minio_root_password": "password",
            "region_name": "us-east-1",
            "aws_client_parameters": {"endpoint_url": f"http://{host}:{port}"},
        },
    )
    import boto3

    where = options["client_kwargs"]
    client = boto3.client("s3", aws_access_key_id="user", aws_secret_access_key="password", **where)
    client.create_bucket(Bucket="bench")
    yield options
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    name = uuid.uuid4().hex
    if request.param == "folder":
        return Store(Place(str(tmp_path / "store")))
    return Store(Place(f"s3://bench/{name}", request.getfixturevalue("s3")))


def file_of(folder: Path, content: bytes) -> Path:
    file = folder / uuid.uuid4().hex
    file.write_bytes(content)
    return file


async def test_what_is_put_comes_back_and_is_not_sent_twice(store: Store, tmp_path: Path):
    contents = [b"", b"a" * 10, os.urandom(3_000_000), b"a" * 10]
    files = [file_of(tmp_path, content) for content in contents]
    done: list[int] = []
    digests = await store.put_many(files, done.append)
    assert digests[1] == digests[3] != digests[0]
    assert sum(done) == sum(map(len, contents))
    assert await store.has([*digests, "0" * 64]) == set(digests)
    targets = [tmp_path / f"back{number}" for number in range(len(contents))]
    await store.get_many(zip(digests, targets, strict=True))
    assert [target.read_bytes() for target in targets] == contents
    assert await store.put_bytes(b"a" * 10) == digests[1]
    await store.delete([digests[0], digests[0]])
    assert await store.has(digests) == set(digests[1:])
    with pytest.raises(NotFound, match="holds no object"):
        await store.get(digests[0], tmp_path / "gone")


async def test_an_interrupted_transfer_goes_on_where_it_stopped(store: Store, tmp_path: Path):
    content = os.urandom(5_000_000)
    digest = await store.put(file_of(tmp_path, content))
    target = tmp_path / "target"
    (tmp_path / "target.partial").write_bytes(content[:4_000_000])
    done: list[int] = []
    await store.get(digest, target, done.append)
    assert target.read_bytes() == content
    assert done[0] == 4_000_000
    (tmp_path / "target.partial").write_bytes(b"x" * 4_000_000)
    with pytest.raises(ServerError, match="not what was stored"):
        await store.get(digest, target)
    await store.get(digest, target)  # the bad part is gone
    assert not (tmp_path / "target.partial").exists()


async def test_records_are_written_once(store: Store):
    await store.write_record("datasets/a/1", b"one")
    await store.write_record("datasets/a/2", b"two")
    await store.write_record("datasets/b/1", b"other")
    with pytest.raises(Conflict):
        await store.write_record("datasets/a/1", b"three")
    assert await store.records("datasets/a") == {"1": b"one", "2": b"two"}
    assert await store.records("models") == {}
    assert await store.read_record("datasets/b/1") == b"other"
    await store.delete_records("datasets/a")
    assert await store.records("datasets/a") == {}
    assert await store.records("datasets") == {"b/1": b"other"}


async def test_a_store_of_another_machine_is_said_in_one_line(store: Store, tmp_path: Path):
    with pytest.raises(Refused, match="is not reached from this machine"):
        await Store(Place(store.url, store.place.options, mark="other", host="laptop")).check()
    mark = await store.found()
    assert await store.found() == mark
    await Store(Place(store.url, store.place.options, mark=mark)).check()


async def test_a_bad_address_is_one_line(tmp_path: Path):
    with pytest.raises(Refused, match="cannot be used"):
        Store(Place("nowhere://x"))
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be used"):
        await Store(Place(str(tmp_path / "file"))).put_bytes(b"x")


async def test_many_at_once_put_the_same(tmp_path: Path):
    store = Store(Place(str(tmp_path / "store")))
    file = file_of(tmp_path, os.urandom(2_000_000))
    digests = await asyncio.gather(*(store.put(file) for _ in range(8)))
    assert len(set(digests)) == 1
    assert not list((tmp_path / "store" / "incoming").iterdir())
