"""What is too large for Prefect: snapshots and artifacts go through the store that is named."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.integration.test_task_api import ask_task, laptop, run, start
from tests.support.agents import Site, client, opened
from tests.support.commands import command
from tests.support.git import Laptop
from tests.support.server import PrefectServer
from tests.unit.test_store import s3

__all__ = ["laptop", "s3"]

TRAINING = """
import hashlib, pathlib
from clearflow import Task
task = Task.init("Digits", "large")
task.execute_remotely("q")
data = pathlib.Path("weights.bin").read_bytes()
print("got", hashlib.sha256(data).hexdigest(), flush=True)
task.upload_artifact("weights", "weights.bin")
task.upload_artifact("text", "x" * 17_000_000)
"""
READ = """
import hashlib
task = Task.get_task({task!r})
weights = open(task.artifacts["weights"].get(), "rb").read()
print(json.dumps([hashlib.sha256(weights).hexdigest(), len(task.artifacts["text"].get())]))
"""
CREDENTIALS = """
from prefect_aws import MinIOCredentials
MinIOCredentials(
    minio_root_user="user", minio_root_password="password", region_name="us-east-1",
    aws_client_parameters={{"endpoint_url": {url!r}}},
).save("bench")
print("null")
"""
VERSIONS = """
import os
from pathlib import Path
from clearflow import Dataset
data = Path({folder!r})
(data / "sub").mkdir(parents=True)
for number in range(20):
    (data / "sub" / str(number)).write_bytes(os.urandom(3000))
(data / "big").write_bytes(os.urandom(9_000_000))
first = Dataset.create("digits", "Vision")
first.add_files(data)
first.upload(max_workers=3)
first.finalize()
(data / "sub" / "3").write_bytes(b"three")
second = Dataset.create(parent_datasets=[first])
changed = second.sync_folder(data)
second.finalize(auto_upload=True)
copy = Path(second.get_local_copy())
files = [f for f in data.rglob("*") if f.is_file()]
same = all((copy / f.relative_to(data)).read_bytes() == f.read_bytes() for f in files)
print(json.dumps([first.id, second.id, list(changed), len(files), same]))
"""

OUTPUT = """
from pathlib import Path
from clearflow import OutputModel, Task
task = Task.init("Digits", "kept elsewhere", output_uri="s3://bench/out")
task.upload_artifact("table", {"a": [1, 2]})
Path("net.pt").write_bytes(b"weights")
OutputModel(name="net").update_weights("net.pt")
"""
KEPT = """
task = Task.get_task({task!r})
(model,) = task.models["output"]
kept = [task.artifacts["table"].get(), task.artifacts["table"].url, model.url]
print(json.dumps([*kept, open(model.get_local_copy()).read()]))
"""


@pytest.fixture
def alone(
    fresh_server: PrefectServer,
    clearflow_home: Path,
    tmp_path: Path,
    unique: Callable[[str], str],
) -> Iterator[Site]:
    """A site on a server of its own: there is one store for all of a server."""
    with opened(
        fresh_server.url, fresh_server.env(), tmp_path, unique("pool"), scripts=True
    ) as site:
        yield site


async def test_twenty_megabytes_travel_there_and_back_and_datasets_over_s3(
    alone: Site, laptop: Laptop, tmp_path: Path, s3: dict[str, Any]
):
    (laptop.root / "weights.bin").write_bytes(os.urandom(20_000_000))
    async with client(alone) as ask:
        alone.agent("q")
        process = start(alone, laptop, TRAINING)
        _, said = process.communicate(timeout=100)
        assert process.returncode != 0
        assert "too much to send through Prefect" in said
        shown = command(alone.env, "store", "show")
        assert "hint: `clearflow store set URL`" in shown.stderr, shown.stderr
        bad = command(alone.env, "store", "set", "s3://bucket/x", "--credentials", "aws/none")
        assert bad.returncode == 2, bad.stderr
        done = command(alone.env, "store", "set", str(tmp_path / "shared"))
        assert done.returncode == 0, done.stderr
        task, _, _ = run(alone, laptop, TRAINING)
        ended = await ask.ended(task)
        console = "\n".join(await ask.console(task))
        assert ended.state is not None
        assert ended.state.type == "COMPLETED", console
        weights, text = ask_task(alone, READ.format(task=task))
        assert f"got {weights}" in console
        assert text == 17_000_000
        (tmp_path / "shared" / "clearflow-store").write_text("of another machine")
        gone = command(alone.env, "store", "show")
        assert gone.returncode == 5
        assert "is not reached from this machine" in gone.stdout
    _over_s3(alone, tmp_path, s3)
    _kept_elsewhere(alone, laptop)


def _kept_elsewhere(site: Site, laptop: Laptop) -> None:
    """A task whose results go below an address of its own choice, with the store's credentials."""
    task, _, _ = run(site, laptop, OUTPUT)
    table, where, model, weights = ask_task(site, KEPT.format(task=task))
    assert (table, weights) == ({"a": [1, 2]}, "weights")
    for url in (where, model):
        assert url.startswith("s3://bench/out/Digits/kept elsewhere."), url


def _over_s3(site: Site, tmp_path: Path, s3: dict[str, Any]) -> None:
    """The same server, with a bucket for its store: versions, a loss and its repair, the end."""
    where = s3["client_kwargs"]
    client = boto3.client("s3", aws_access_key_id="user", aws_secret_access_key="password", **where)

    def sizes() -> dict[str, int]:
        found = client.list_objects_v2(Bucket="bench", Prefix="ours/objects").get("Contents", ())
        return {each["Key"]: each["Size"] for each in found}

    ask_task(site, CREDENTIALS.format(url=where["endpoint_url"]))
    words = ["store", "set", "s3://bench/ours", "--credentials", "minio-credentials/bench"]
    assert command(site.env, *words).returncode == 0
    first, second, *seen = ask_task(site, VERSIONS.format(folder=str(tmp_path / "data")))
    assert seen == [[0, 0, 1], 21, True]
    stored = sizes()
    # Twenty small files in one object, a large one in three, three manifests of a version each.
    assert 9_060_000 < sum(stored.values()) < 9_080_000
    largest = max(stored, key=lambda key: stored[key])
    client.put_object(Bucket="bench", Key=largest, Body=b"broken")
    assert command(site.env, "dataset", "verify", first).returncode == 1
    mended = command(site.env, "dataset", "verify", second, "--repair")
    assert mended.returncode == 0, mended.stdout
    assert command(site.env, "dataset", "verify", first).returncode == 0
    for each in (second, first):
        assert command(site.env, "dataset", "rm", each, "--yes").returncode == 0
    assert sizes() == {}


def test_what_nobody_needs_leaves_the_store(alone: Site, tmp_path: Path):
    """Of a version that was deleted although another one stood on it, and of a broken upload."""
    assert command(alone.env, "store", "set", str(tmp_path / "shared")).returncode == 0
    objects = tmp_path / "shared" / "objects"

    def stored() -> set[Path]:
        return {file for file in objects.rglob("*") if file.is_file()}

    def collected(*words: str) -> str:
        done = command(alone.env, "store", "gc", *words)
        assert done.returncode == 0, done.stderr
        return done.stderr

    first, second, *_ = ask_task(alone, VERSIONS.format(folder=str(tmp_path / "data")))
    everything = stored()
    broken = objects / "0123456789abcdef.partial"
    broken.write_bytes(b"half")
    task = objects / "ab" / ("0" * 62)  # a task's own: no dataset has ever named it
    task.parent.mkdir(exist_ok=True)
    task.write_bytes(b"a snapshot")
    assert command(alone.env, "dataset", "rm", first, "--yes").returncode == 5
    assert command(alone.env, "dataset", "rm", first, "--force", "--yes").returncode == 0
    assert "deleted 0 objects" in collected()
    assert broken.exists()  # it may go on
    assert "deleted 0 objects" in collected("--hours", "0")
    assert stored() == {*everything, task}
    assert command(alone.env, "dataset", "verify", second).returncode == 0
    assert command(alone.env, "dataset", "rm", second, "--yes").returncode == 0
    collected("--hours", "0")
    assert stored() == {task}
    assert "deleted 0 objects, 0.0 MB" in collected("--hours", "0")
