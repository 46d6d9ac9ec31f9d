"""Datasets on a real server: people who change one at once, what Prefect sees of it, and tasks."""

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from clearflow import Dataset
from clearflow._prefect import events
from clearflow._prefect.connection import Connection
from clearflow._prefect.http import Api
from clearflow.errors import Conflict, NotFound, Refused, Usage
from clearflow.registry import Registry, index
from clearflow.store import Store
from clearflow.words import entries
from clearflow.words.places import Place
from tests.integration.test_task_api import laptop, run
from tests.support.server import PrefectServer
from tests.support.waiting import wait_until_async

__all__ = ["laptop"]


async def test_people_who_change_an_entry_at_once_lose_nothing(
    server: PrefectServer, tmp_path: Path, unique: Callable[[str], str]
):
    async with Api(Connection(url=server.url)) as api:
        since = api.clock.now() - timedelta(minutes=1)
        place = Place(str(tmp_path / "store"))
        people = [
            Registry(api, Store(place), entries.DATASET, by=f"user {n}", task=None)
            for n in range(4)
        ]
        project = unique("Vision / 🐈")
        made = await asyncio.gather(*(p.create(project, "digits -- raw") for p in people))
        assert sorted(e.version for e in made) == ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]
        with pytest.raises(Conflict, match=r"there is a version 1\.0\.2"):
            await people[0].create(project, "digits -- raw", version="1.0.2")
        one = made[0].id
        await asyncio.gather(*(p.change(one, entries.TAGGED, tags=[p._by]) for p in people))
        tagged = {"user 0", "user 1", "user 2", "user 3"}
        assert set((await people[0].get(one)).tags) == tagged
        done = await asyncio.gather(
            *(p.change(one, entries.FINALIZED, about={"by": p._by}) for p in people),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in done) == ["Conflict"] * 3 + ["Entry"]
        (winner,) = [each for each in done if isinstance(each, entries.Entry)]
        assert (await people[1].get(one)).about == winner.about
        # Prefect's card says the same, whoever wrote it last.
        await people[0].change(one, entries.PUBLISHED)
        shown = {e.id: e for e in await index.listed(api, entries.DATASET)}
        assert shown[one] == await people[2].get(one)
        # A change that changes nothing is not told.
        await people[0].change(one, entries.TAGGED, tags=["user 1"])
        other = made[1].id
        await people[0].change(other, entries.DELETED)
        with pytest.raises(NotFound, match="was deleted"):
            await people[0].change(other, entries.PUBLISHED)
        assert other not in {e.id for e in await index.listed(api, entries.DATASET)}
        assert [e.version for e in await people[0].named(project, "digits -- raw")] == sorted(
            (e.version for e in made if e.id != other), reverse=True
        )

        async def told() -> list[events.Event]:
            names = ["clearflow.dataset.*"]
            return [
                e
                async for e in events.happened(api, names, since)
                if e.payload["project"] == project
            ]

        async def all_there() -> bool:
            return len(await told()) >= 4 + 4 + 1 + 1 + 1

        await wait_until_async(all_there, timeout=30, what="all events are stored")
        found = await told()
        counts = {what: sum(e.name.endswith(f".{what}") for e in found) for what in entries.TOLD}
        assert counts == {
            "created": 4,
            "tagged": 4,
            "finalized": 1,
            "published": 1,
            "deleted": 1,
            "untagged": 0,
            "archived": 0,
        }
        published = next(e for e in found if e.name.endswith(".published"))
        assert published.resource == f"clearflow.dataset.{one}"
        assert set(published.payload["tags"]) == tagged
        assert published.payload["version"] == made[0].version
        assert published.payload["status"] == "published"

        # The index is made anew from the truth.
        for entry in shown.values():
            if entry.project == project:
                await index.hide(api, entry)
        await people[0].reindex()
        again = {e.id: e for e in await index.listed(api, entries.DATASET)}
        assert again[one] == shown[one]
        assert json.loads((await people[0].records(one))[0].dump())["project"] == project


IN_A_TASK = """
from pathlib import Path
from clearflow import Dataset, Task
task = Task.init("Vision", "prepare")
task.execute_remotely("q")
made = Dataset.create({name!r}, dataset_tags=["raw"])
for number in range(50):
    Path("data").mkdir(exist_ok=True)
    Path(f"data/{{number}}.txt").write_text(f"digit {{number}}")
made.add_files("data")
made.finalize(auto_upload=True)
made.add_tags(["production"])
print("made", made.id, made.project, made.version, flush=True)
"""
IN_ANOTHER = """
import os
from pathlib import Path
from clearflow import Dataset, Task
task = Task.init("Vision", "train")
task.execute_remotely("q")
found = Dataset.get(
    dataset_project="Vision", dataset_name={name!r}, dataset_tags=["production"], alias="digits"
)
folder = Path(found.get_local_copy())
file = folder / "7.txt"
print("read", file.read_text(), oct(file.stat().st_mode)[-3:], flush=True)
print("keys", [k for k in os.environ if "API_KEY" in k or "PREFECT_API_URL" in k], flush=True)
mine = Path(found.get_mutable_local_copy("mine"))
(mine / "7.txt").write_text("seven")
child = Dataset.create(parent_datasets=[found])
print("changes", child.sync_folder(mine), child.list_modified_files(), flush=True)
child.finalize(auto_upload=True)
"""


async def test_a_dataset_of_one_task_is_used_in_another(shared_site, shared, laptop, unique):
    name = unique("digits")
    since = shared.api.clock.now() - timedelta(minutes=1)
    first, _, _ = run(shared_site, laptop, IN_A_TASK.format(name=name))
    assert (await shared.ended(first)).state.type == "COMPLETED", await shared.console(first)
    second, _, _ = run(shared_site, laptop, IN_ANOTHER.format(name=name))
    ended = await shared.ended(second)
    console = "\n".join(await shared.console(second))
    assert ended.state.type == "COMPLETED", console
    assert "read digit 7 444" in console
    assert "keys []" in console
    assert "changes (0, 0, 1) ['7.txt']" in console
    cards = [e for e in await index.listed(shared.api, entries.DATASET) if e.name == name]
    child, parent = sorted(cards, key=lambda e: e.version, reverse=True)
    assert (parent.version, parent.task, parent.tags) == ("1.0.0", first, ("raw", "production"))
    assert (child.version, child.task, child.parents) == ("1.0.1", second, (parent.id,))
    assert child.about["modified"] == 1
    assert ended.parameters["Datasets"] == {"digits": parent.id}

    async def tagged() -> events.Event | None:
        names = ["clearflow.dataset.tagged"]
        found = [e async for e in events.happened(shared.api, names, since)]
        return next((e for e in found if e.payload["name"] == name), None)

    event = await wait_until_async(tagged, what="the event is stored")
    assert event is not None
    assert event.payload["changed"] == ["production"]
    assert event.payload["task"] == first
    assert event.related["flow-run"] == f"prefect.flow-run.{first}"


@pytest.fixture
def here(
    server: PrefectServer, clearflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """This very process is a laptop; its store is the folder."""
    from clearflow.settings import settings

    monkeypatch.setenv("PREFECT_API_URL", server.url)
    settings.cache_clear()
    yield clearflow_home / "store"
    settings.cache_clear()


@dataclass
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def command(*words: str) -> Done:
    """`clearflow dataset …`, in this process."""
    from clearflow.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clearflow", "dataset", *words])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def test_versions_live_and_go(here: Path, tmp_path: Path, unique: Callable[[str], str]):
    project = unique("Vision")
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    for number in range(30):
        (data / "sub" / f"{number}").write_bytes(os.urandom(500))
    (data / "large").write_bytes(os.urandom(9_000_000))
    with pytest.raises(Usage, match="needs a name and a project"):
        Dataset.create("digits")
    first = Dataset.create("digits", project)
    assert first.add_files(data, wildcard="*") == 31
    with pytest.raises(Refused, match="is not finalized"):
        first.get_local_copy()
    with pytest.raises(Refused, match="is not finalized"):
        Dataset.create(parent_datasets=[first])
    with pytest.raises(Refused, match="31 changes of the dataset"):
        first.finalize()
    first.upload()
    first.upload()
    first.finalize()
    with pytest.raises(Refused, match="it is not changed any more"):
        first.add_files(data)

    # A child stores what changed, and shares the rest of its copy with its parent's.
    (data / "sub" / "3").write_bytes(b"three")
    (data / "new").write_bytes(b"new")
    (data / "sub" / "4").unlink()
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_bytes(b"a,b")
    second = Dataset.create(parent_datasets=[first], dataset_tags=["best"])
    assert second.sync_folder(data) == (1, 1, 1)
    assert second.add_external_files(f"file://{elsewhere}", dataset_path="out") == 1
    assert second.remove_files("sub/5*") == 1
    before = sum(f.stat().st_size for f in (here / "objects").rglob("*") if f.is_file())
    second.finalize(auto_upload=True)
    after = sum(f.stat().st_size for f in (here / "objects").rglob("*") if f.is_file())
    assert after - before < 3000
    assert second.list_added_files() == ["new", "out/elsewhere.csv"]
    assert second.list_modified_files() == ["sub/3"]
    assert second.list_removed_files() == ["sub/4", "sub/5"]
    old, new = Path(first.get_local_copy()), Path(second.get_local_copy())
    assert (new / "out" / "elsewhere.csv").read_bytes() == b"a,b"
    assert (new / "sub" / "3").read_bytes() == b"three"
    assert (old / "large").samefile(new / "large")
    assert Path(second.get_local_copy(files=["new"])).name.startswith(f"{second.id}-")
    parts = [Path(second.get_local_copy(part=n, num_parts=2)) for n in range(2)]
    found = [f.relative_to(p).as_posix() for p in parts for f in p.rglob("*") if f.is_file()]
    assert sorted(found) == second.list_files()
    second.set_metadata({"labels": 10})
    assert Dataset.get(second.id).get_metadata() == {"labels": 10}

    # The latest that fits is one that is finalized, whatever somebody is making.
    draft = Dataset.create("digits", project)
    assert Dataset.get(dataset_project=project, dataset_name="digits") == second
    assert (
        Dataset.get(dataset_name="digits", dataset_project=project, dataset_version="1.0.0")
        == first
    )
    with pytest.raises(NotFound, match=r"no dataset .*/digits with tags nobody"):
        Dataset.get(dataset_project=project, dataset_name="digits", dataset_tags=["nobody"])
    Dataset.delete(draft.id)
    both = Dataset.squash("both", [first, second])
    assert (both.project, len(both.list_files())) == (project, len(second.list_files()) + 2)
    assert both.verify_dataset_hash() == []

    # What somebody breaks in the store is found.
    victim = max((here / "objects").rglob("*"), key=lambda f: f.stat().st_size)
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + b"?")
    wrong = command("verify", f"{project}/digits:1.0.0")
    assert wrong.returncode == 1
    assert "large  corrupted" in wrong.stdout
    victim.write_bytes(content)
    assert command("verify", f"{project}/digits:1.0.0").returncode == 0

    # Nothing goes that another needs, and all of it goes with the last one.
    refused = command("rm", first.id, "--yes")
    assert refused.returncode == 5
    assert refused.stderr.splitlines()[0].endswith(f"is needed by {project}/digits 1.0.1")
    Dataset.delete(first.id, force=True)
    assert second.verify_dataset_hash() == []
    assert not old.exists()
    Dataset.delete(dataset_project=project, dataset_name="digits", entire_dataset=True)
    assert both.verify_dataset_hash() == []
    Dataset.delete(both.id)
    assert [f for f in (here / "objects").rglob("*") if f.is_file()] == []
    assert Dataset.list_datasets(project, only_completed=False) == []


def test_the_command_line_makes_one(here: Path, tmp_path: Path, unique: Callable[[str], str]):
    name = f"{unique('Vision')}/digits"
    (tmp_path / "a").write_text("a")
    assert command("show", name).returncode == 3
    made = command("create", name, "--tag", "raw")
    assert made.returncode == 0, made.stderr
    assert command("add", name, str(tmp_path / "nowhere")).returncode == 3
    assert "took 1 files" in command("add", name, str(tmp_path / "a")).stderr
    done = command("finalize", name, "--upload", "--publish")
    assert "published" in done.stderr, done.stderr
    assert command("tag", name, "best", "--remove", "raw").stderr.endswith("tags: best\n")
    got = command("get", name)
    assert Path(got.stdout.strip(), "a").read_text() == "a"
    shown = json.loads(command("show", made.stdout.strip()[:8], "--files", "--json").stdout)
    assert (shown["tags"], shown["status"]) == (["best"], "published")
    assert [each["path"] for each in shown["list"]] == ["a"]
    rows = json.loads(command("ls", "--tag", "best", "--json").stdout)
    assert made.stdout.strip() in [each["id"] for each in rows]
    assert command("reindex").returncode == 0
