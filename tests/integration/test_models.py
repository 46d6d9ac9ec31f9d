"""Models as they are used: made by a task, tagged, found, taken in by another task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clearflow._prefect import events
from tests.integration.test_task_api import ask_task, laptop, lines, run, sent
from tests.support import commands
from tests.support.git import Laptop
from tests.support.waiting import wait_until_async

__all__ = ["laptop"]

TRAIN = """
import os
from clearflow import OutputModel, Task
task = Task.init("Digits", "train")
task.set_parameter("Datasets/digits", "d" * 32)
model = task.upload_model("weights.bin", "net", framework="PyTorch", comment="first")
model.report_single_value("accuracy", 0.5)
os.makedirs("package/inner", exist_ok=True)
open("package/a.txt", "w").write("a")
open("package/inner/b.txt", "w").write("b")
package = OutputModel(name="package", tags=["p"], config_dict={"depth": 2})
package.update_weights_package("package")
# The same name in the same task is the same model.
open("weights.bin", "ab").write(b"more")
again = OutputModel(name="net", label_enumeration={"cat": 0}, tags=["better"])
again.update_weights("weights.bin", iteration=7)
again.set_metadata("epochs", 3)
import joblib
class Guess:
    def predict(self, x):
        return 0
joblib.dump(Guess(), "guess.joblib")
print("models", task.models["output"].keys(), again == model, flush=True)
"""
USE = """
import os
from clearflow import InputModel, Model, Task
task = Task.init("Digits", "use")
model = InputModel(name="net", project="Digits")
model.connect(name="start")
path = model.get_local_copy()
print("uses", os.path.getsize(path), open(path, "rb").read(4), task.models["input"].keys())
package = Model.query(model_name="package", include_archived=True)[0]
print("package", [os.path.basename(p) for p in package.get_weights_package()], flush=True)
"""
QUERY = """
from clearflow import InputModel, Model
def names(**asked):
    return [model.name for model in Model.query_models("Digits", **asked)]
net = InputModel(name="net", project="Digits")
print(json.dumps({
    "all": names(), "pattern": names(model_name="^n"), "tags": names(tags=["better", "p"]),
    "every": names(tags=["__$all", "better", "p"]), "published": names(only_published=True),
    "framework": names(framework="PyTorch"), "metadata": names(metadata={"epochs": 3}),
    "best": names(order_by="-metrics.accuracy")[0], "first": names(order_by="created"),
    "net": [net.id, net.tags, net.labels, net.comment, net.size, net.get_metrics(),
            net.get_all_metadata(), net.published],
    "design": Model.query_models("Digits", "package")[0].config_dict,
}))
"""


def command(site, *words: str, code: int = 0) -> Any:
    """`clearflow model …`; what it says as JSON, else in words."""
    done = commands.command(site.env, "model", *words)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr


@pytest.mark.timeout(240)
async def test_a_model_from_the_task_that_makes_it_to_the_task_that_uses_it(
    site, ask, laptop: Laptop, tmp_path: Path
):
    # Agent and laptop have the same store.
    home = laptop.root.parent / "laptop-home"
    site.env["CLEARFLOW_HOME"] = str(home)
    site.agent("q", home=home)
    since = ask.api.clock.now()
    laptop.write("weights.bin", b"some" * 1000)
    task, out, _ = run(site, laptop, TRAIN)
    assert out.splitlines() == ["models ['net', 'package'] True"]
    laptop.write("weights.bin", b"some" * 1000)
    found = ask_task(site, QUERY)
    net, *about = found.pop("net")
    assert about == [["better"], {"cat": 0}, "first", 4004, {"accuracy": 0.5}, {"epochs": 3}, False]
    assert found == {
        "all": ["train - guess", "package", "net"], "pattern": ["net"], "tags": ["package", "net"],
        "every": [], "published": [], "framework": ["net"], "metadata": ["net"],
        "best": "net", "first": ["net", "package", "train - guess"], "design": {"depth": 2},
    }  # fmt: skip

    command(site, "tag", "Digits/net", "stable", "best")
    settled = f"""
from clearflow import Model
from clearflow.errors import Refused
model = Model({net!r})
model.remove_tags("best")
model.publish()
Model.query_models("Digits", "package")[0].archive()
try:
    Model.remove(model)
except Refused as error:
    print(json.dumps([error.message, model.published, Model.query("Digits", "^net") == [model]]))
"""
    assert ask_task(site, settled) == ["the model Digits/net is published", True, True]

    # A second task takes it in, and a clone of that another one instead.
    (laptop.root / "train.py").write_text(USE)
    user = sent(site, laptop, "use")
    assert (await ask.ended(user)).state.type == "COMPLETED", await ask.report(user)
    said = await lines(ask, user)
    assert said == ["uses 4004 b'some' ['net']", "package ['a.txt', 'b.txt']"]
    (laptop.root / "other.bin").write_bytes(b"othr")
    words = ["upload", str(laptop.root / "other.bin"), "--name", "Others/other", "--json"]
    other = command(site, *words)
    changed = f"""
task = Task.clone({user!r})
task.set_parameter("Models/start", {other["id"]!r})
Task.enqueue(task, "q")
print(json.dumps([task.wait(60), [line for line in task.logs() if "uses" in line]]))
"""
    assert ask_task(site, changed) == ["completed", ["uses 4 b'othr' ['other']"]]

    lineage = command(site, "show", "Digits/net", "--json")["lineage"]
    assert (lineage["task"]["id"], lineage["task"]["name"]) == (task, "train")
    assert lineage["datasets"] == [{"id": "d" * 32, "title": "d" * 32}]
    assert [each["id"] for each in lineage["used_by"]] == [user]
    shown = command(site, "show", "Digits/net")
    assert all(word in shown for word in ("Digits/train", "/use (", "PyTorch", "accuracy 0.5"))

    place = tmp_path / "fetched"
    command(site, "get", "Digits/package", "--to", str(place))
    assert sorted(p.name for p in place.rglob("*.txt")) == ["a.txt", "b.txt"]
    listed = command(site, "ls", "--project", "Digits", "--published", "--json")
    assert [each["name"] for each in listed] == ["net"]
    command(site, "rm", "Others/other", "--yes")
    assert "there is no model Others/other" in command(site, "show", "Others/other", code=3)

    async def told() -> list[events.Event] | None:
        seen = events.happened(ask.api, ["clearflow.model.*"], since)
        ours = [e async for e in seen if e.payload["project"] in {"Digits", "Others"}]
        return ours if any(e.name.endswith("deleted") for e in ours) else None

    happened = await wait_until_async(told, 60, what="the events")
    assert happened is not None
    of_net = [e for e in happened if e.payload["id"] == net]
    assert [e.name.rpartition(".")[2] for e in of_net] == [
        "created", "tagged", "tagged", "untagged", "published",
    ]  # fmt: skip
    tagged = of_net[2]
    assert tagged.resource == f"clearflow.model.{net}"
    assert tagged.payload["changed"] == ["best", "stable"]
    assert set(tagged.payload["tags"]) == {"better", "stable", "best"}
    assert of_net[0].payload["task"] == task
