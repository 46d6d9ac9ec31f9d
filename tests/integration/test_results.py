"""What tasks report: here, on an agent, in the Prefect UI's artifacts, and with the server away."""

import base64
import json
import signal
from pathlib import Path

import pytest

from clearflow._prefect import artifacts
from clearflow.tasks import results
from clearflow.words.models import Run
from tests.integration.test_task_api import (
    ask_task,
    laptop,
    lines,
    run,
    sent,
    start,
    task_of,
)
from tests.support.agents import LOSING, QUICK, AgentProcess, Client, Site, client, opened
from tests.support.commands import command
from tests.support.gates import closed, open_gate
from tests.support.git import Laptop
from tests.support.waiting import wait_until_async

__all__ = ["laptop"]

TRAINING = """
from clearflow import Task
task = Task.init("Digits", "results")
logger = task.get_logger()
for i in range(1200):
    for n in range(5):
        logger.report_scalar("loss", f"s{n}", value=(n + 1) / (i + 1), iteration=i)
logger.report_scalar("odd", "nan", float("nan"), 0)
logger.report_single_value("accuracy", 0.75)
logger.report_table("scores", "test", iteration=3, table_plot=[["name", "score"], ["a", 1.5]])
logger.report_histogram("hist", "h", [1, 3, 2], iteration=1, xlabels=["a", "b", "c"])
logger.report_confusion_matrix("confused", "c", [[5, 1], [0, 7]], iteration=1)
logger.report_scatter2d("cloud", "dots", [[0, 1], [1, 2]], iteration=1, mode="markers")
logger.report_line_plot("lines", [{"name": "x", "data": [[0, 1], [1, 2]]}], "x", "y")
logger.report_text("said aloud")
logger.report_text("kept quiet", print_console=False)
task.upload_artifact("numbers", {"a": [1, 2.5]}, metadata={"by": "me"})
task.upload_artifact("pickled", {1, 2, 3})
task.upload_artifact("code", __file__)
"""
# It reads its own results, and ends at once after the last.
READS_ITSELF = """
from clearflow import Task
task = Task.current_task()
print("itself", task.get_last_iteration(), task.artifacts["numbers"].get(), flush=True)
print("logger", type(Task.current_task().get_logger()).__name__, flush=True)
"""
READ = """
task = Task.get_task({task!r})
print(json.dumps({{
    "iteration": task.get_last_iteration(),
    "metrics": task.get_last_scalar_metrics()["loss"],
    "curve": task.get_reported_scalars()["loss"]["s1"],
    "thin": len(task.get_reported_scalars(max_samples=100)["loss"]["s1"]["x"]),
    "nan": str(task.get_reported_scalars()["odd"]["nan"]["y"]),
    "accuracy": task.get_reported_single_value("accuracy"),
    "artifacts": {{a.name: [a.type, a.size, a.preview[:20]] for a in task.artifacts.values()}},
    "numbers": task.artifacts["numbers"].get(),
    "metadata": task.artifacts["numbers"].metadata,
    "pickled": sorted(task.artifacts["pickled"].get()),
    "code": open(task.artifacts["code"].get_local_copy()).read(),
}}))
"""


async def check_training(site, ask, task: str, code: str) -> None:
    """That all of TRAINING is there: for programs, for the command line, and to look at."""
    seen = ask_task(site, READ.format(task=task))
    assert seen["iteration"] == 1199
    assert seen["metrics"]["s4"] == {"last": 5 / 1200, "min": 5 / 1200, "max": 5.0}
    assert seen["curve"]["x"] == list(range(1200))
    assert seen["curve"]["y"] == [2 / (i + 1) for i in range(1200)]
    assert (seen["thin"], seen["nan"], seen["accuracy"]) == (100, "[nan]", 0.75)
    assert seen["artifacts"]["numbers"][0] == "JSON"
    assert seen["artifacts"]["pickled"] == ["pickle", len_of(seen, "pickled"), "{1, 2, 3}"]
    assert (seen["numbers"], seen["metadata"]) == ({"a": [1, 2.5]}, {"by": "me"})
    assert (seen["pickled"], seen["code"]) == ([1, 2, 3], code)
    await check_shown(ask, await ask.run(task))
    check_listed(site, task)
    said = await ask.console(task)
    assert "said aloud" in said
    assert "kept quiet" in said


def len_of(seen, name: str) -> int:
    return seen["artifacts"][name][1]


async def check_shown(ask, run: Run) -> None:
    """What the Prefect UI shows of a run: tables, and pictures that hold themselves."""
    kinds = (artifacts.TABLE, artifacts.MARKDOWN)
    found = {(a.kind, a.about.get("title")): a async for a in artifacts.of(ask.api, run.id, *kinds)}
    titles = {title for kind, title in found if kind == results.PICTURE}
    assert titles == {"hist", "confused", "cloud", "lines"}
    drawn = found[results.SCALARS_PICTURE, "loss"]
    svg = base64.b64decode(drawn.data.partition("base64,")[2].rstrip(")")).decode()
    assert svg.count("<polyline") == 5
    assert drawn.description == "**loss**"
    assert json.loads(found[results.GRID, "scores"].data) == [{"name": "a", "score": 1.5}]
    assert json.loads(found[results.VALUES, None].data) == [{"name": "accuracy", "value": 0.75}]


def check_listed(site, task: str) -> None:
    """What `clearflow task show` says."""
    shown = command(site.env, "task", "show", task)
    assert "accuracy" in shown.stdout, shown.stderr
    assert "pickled" in shown.stdout
    record = command(site.env, "task", "show", task, "--json")
    known = json.loads(record.stdout)
    (loss,) = (s for s in known["scalars"] if s["series"] == "s4")
    assert (loss["title"], loss["max"], loss["iteration"]) == ("loss", 5.0, 1199)
    assert {a["name"] for a in known["artifacts"]} == {"numbers", "pickled", "code"}


@pytest.fixture
def site(shared_site: Site, shared_agent: AgentProcess) -> Site:
    """All share a pool and the agent of its queue `q`."""
    return shared_site


@pytest.fixture
async def ask(shared: Client) -> Client:
    return shared


async def test_results_of_a_program_here(site, ask, laptop):
    task, out, _ = run(site, laptop, TRAINING)
    assert out == "said aloud\n"
    await check_training(site, ask, task, TRAINING)


async def test_results_of_a_task_on_an_agent(site, ask, laptop):
    code = TRAINING + READS_ITSELF
    (laptop.root / "train.py").write_text(code)
    task = sent(site, laptop, "results")
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    await check_training(site, ask, task, code)
    printed = await lines(ask, task)
    assert "itself 1199 {'a': [1, 2.5]}" in printed
    assert "logger Logger" in printed


async def test_two_tasks_of_one_program_keep_their_results_apart(site, ask, laptop):
    script = """
from clearflow import Task
first = Task.init("Digits", "first")
logger = first.get_logger()
logger.report_scalar("loss", "x", 1, 1)
first.close()
second = Task.init("Digits", "second")
second.get_logger().report_scalar("loss", "x", 2, 2)
logger.report_scalar("loss", "late", 3, 3)
print(first.get_last_iteration(), second.get_last_iteration(), first.id, second.id, flush=True)
"""
    _, out, err = run(site, laptop, script)
    last, other, first, second = out.split()
    assert (last, other) == ("3", "2"), err
    for task, series in ((first, {"x", "late"}), (second, {"x"})):
        curves = await results.curves(ask.api, (await ask.run(task)).id)
        assert {key[1] for key in curves} == series


async def test_scalars_are_seen_while_a_task_runs(site, ask, laptop):
    script = """
from clearflow import Task
logger = Task.init("Digits", "live").get_logger()
for i in range(300):
    logger.report_scalar("loss", "train", 1 / (i + 1), i)
open("more").read()
for i in range(300, 400):
    logger.report_scalar("loss", "train", 1 / (i + 1), i)
open("never").read()
"""
    more, _ = closed(laptop.root / "more"), closed(laptop.root / "never")
    process = start(site, laptop, script)
    assert process.stderr is not None
    task = task_of(process.stderr.readline())
    run_id = (await ask.run(task)).id

    async def seen(iteration: int) -> bool:
        return any(
            curve.iterations[-1] == iteration
            for curve in (await results.curves(ask.api, run_id)).values()
        )

    await wait_until_async(lambda: seen(299), what="the first scalars")
    open_gate(more)
    await wait_until_async(lambda: seen(399), what="more of them")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (await ask.ended(task)).state.type == "CRASHED"


async def test_a_task_that_goes_elsewhere_takes_its_results_along(site, ask, laptop):
    script = """
from clearflow import Task
task = Task.init("Digits", "moves")
logger = task.get_logger()
there = not Task.running_locally()
for i in range(4 if there else 3):
    logger.report_scalar("again", "x", 10 if there else 1, i + 1)
if not there:
    logger.report_scalar("once", "x", 5, 0)
    task.upload_artifact("kept", "from here")
    task.execute_remotely("q")
"""
    task, _, err = run(site, laptop, script)
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    code = (
        f"task = Task.get_task({task!r})\nfound = task.get_reported_scalars()\n"
        "print(json.dumps([found['again']['x'], found['once']['x']['y'],"
        " task.artifacts['kept'].get()]))"
    )
    again, once, kept = ask_task(site, code)
    assert (again["x"], again["y"]) == ([1, 2, 3, 4], [10, 10, 10, 10]), err
    assert (once, kept) == ([5], "from here")


async def test_other_processes_and_other_programs_report_to_a_task(site, ask, laptop):
    script = """
import multiprocessing
from clearflow import Task

def work(n):
    Task.current_task().get_logger().report_scalar("loss", f"rank {n}", n, 7)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(work, [1, 2])
        pool.close()
        pool.join()
"""
    (laptop.root / "train.py").write_text(script)
    task = sent(site, laptop, "ranks")
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    code = (
        f"task = Task.get_task({task!r})\n"
        "task.get_logger().report_scalar('test', 'late', 0.5, 1)\n"
        "task.upload_artifact('late', 'too', wait_on_upload=True)\n"
        "print(json.dumps([task.get_reported_scalars(), task.artifacts['late'].get()]))"
    )
    scalars, late = ask_task(site, code)
    assert {name: s["y"] for name, s in scalars["loss"].items()} == {"rank 1": [1], "rank 2": [2]}
    assert (scalars["test"]["late"]["y"], late) == ([0.5], "too")


async def test_results_under_an_older_python(site, ask, laptop):
    header = '# /// script\n# requires-python = "==3.9.*"\n# ///\n'
    code = header + TRAINING + READS_ITSELF
    (laptop.root / "train.py").write_text(code)
    task = sent(site, laptop, "old")
    assert (await ask.ended(task, timeout=100)).state.type == "COMPLETED", await ask.report(task)
    await check_training(site, ask, task, code)


async def test_an_attempt_that_starts_again_replaces_what_the_lost_one_reported(
    own_site, own_ask, tmp_path: Path, laptop: Laptop
):
    agent = own_site.agent("q", env=LOSING)
    script = f"""
import threading
from pathlib import Path
from clearflow import Task
logger = Task.init("Digits", "again").get_logger()
again = Path({str(tmp_path)!r}) / "again"
first = not again.exists()
again.touch()
for i in range(100 if first else 5):
    logger.report_scalar("loss", "x", 1 if first else 2, i)
logger.report_scalar("\\0 \\ud800", 7, 1, 1)
if first:
    threading.Event().wait()
"""
    (laptop.root / "train.py").write_text(script)
    task = sent(own_site, laptop, "again")
    run_id = (await own_ask.run(task)).id

    async def curve():
        return (await results.curves(own_ask.api, run_id)).get(("loss", "x"))

    await wait_until_async(curve, 60, what="its scalars")
    (supervisor,) = agent.processes("cf-supervisor")
    supervisor.kill()
    ended = await own_ask.ended(task, timeout=100)
    assert ended.status(own_ask.api.clock.now()) == "completed", await own_ask.report(task)
    found = await curve()
    assert (found.iterations, found.values) == ([0, 1, 2, 3, 4], [2.0] * 5)
    markdown = [a async for a in artifacts.of(own_ask.api, ended.id, artifacts.MARKDOWN)]
    assert sorted(a.about["title"] for a in markdown) == ["loss", "\ufffd \ufffd"]


LIBRARIES = """
# /// script
# dependencies = ["matplotlib", "pandas", "pillow", "tensorboardX"]
# ///
import matplotlib
matplotlib.use("agg")
from clearflow import Task
task = Task.init("Digits", "libraries")
import numpy, pandas
from matplotlib import pyplot as plt
from PIL import Image
from tensorboardX import SummaryWriter

with SummaryWriter("logs") as writer:
    for i in range(3):
        writer.add_scalar("loss/train", numpy.float32(i), i)
figure, axes = plt.subplots()
axes.plot([1, 2])
axes.set_title("Saved")
figure.savefig("figure.png")
axes.set_title("Shown")
plt.show()
frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, 0.25]}, index=["x", "y"])
logger = task.get_logger()
logger.report_table("frame", "f", 0, table_plot=frame)
logger.report_image("image", "i", 4, image=Image.new("RGB", (4, 4), "red"))
logger.report_image("image", "file", 4, local_path="figure.png")
logger.report_matplotlib_figure("figure", "m", plt, 4)
task.upload_artifact("frame", frame)
task.upload_artifact("array", numpy.eye(2))
task.upload_artifact("image", Image.new("L", (2, 2), 7))
same = task.artifacts["frame"].get().equals(frame), task.artifacts["array"].get().tolist()
print("libraries", *same, task.artifacts["image"].get().getpixel((1, 1)), flush=True)
"""


@pytest.mark.timeout(240)
async def test_results_of_the_libraries_that_a_program_imports(site, ask, laptop):
    (laptop.root / "train.py").write_text(LIBRARIES)
    task = sent(site, laptop, "libraries")
    ended = await ask.ended(task, timeout=200)
    assert ended.state.type == "COMPLETED", await ask.report(task)
    assert "libraries True [[1.0, 0.0], [0.0, 1.0]] 7" in await lines(ask, task)
    curve = (await results.curves(ask.api, ended.id))["loss", "train"]
    assert curve.values == [0, 1, 2]
    markdown = [a async for a in artifacts.of(ask.api, ended.id, artifacts.MARKDOWN)]
    shown = {a.about["title"] for a in markdown if a.kind == results.PICTURE}
    assert shown == {"Saved", "Shown", "image", "figure"}
    tables = [a async for a in artifacts.of(ask.api, ended.id, artifacts.TABLE)]
    (frame,) = (json.loads(a.data) for a in tables if a.about.get("title") == "frame")
    assert frame == [{"index": "x", "a": 1, "b": 0.5}, {"index": "y", "a": 2, "b": 0.25}]


AWAY = """
from pathlib import Path
from clearflow import Task
task = Task.init("Digits", "away")
logger = task.get_logger()
folder = Path({folder!r})
logger.report_scalar("loss", "x", 0, 0)
(folder / "begun").touch()
(folder / "away").read_text()
for i in range(1, 6000):
    logger.report_scalar("loss", "x", i, i)
task.upload_artifact("last", "words")
(folder / "over").touch()
"""


@pytest.fixture
def alone(fresh_server, clearflow_home, tmp_path, unique):
    """A site on a server of its own, which a test may stop."""
    with opened(
        fresh_server.url, fresh_server.env(), tmp_path, unique("pool"), scripts=True
    ) as site:
        yield site


@pytest.mark.timeout(240)
async def test_nothing_is_lost_when_the_server_is_away_at_the_end(
    alone, fresh_server, tmp_path: Path, laptop: Laptop
):
    async with client(alone) as ask:
        alone.agent("q", env=QUICK)
        closed(tmp_path / "away")
        (laptop.root / "train.py").write_text(AWAY.format(folder=str(tmp_path)))
        task = sent(alone, laptop, "away")
        await wait_until_async(lambda: there(tmp_path / "begun"), 60, what="its beginning")
        fresh_server.kill()
        open_gate(tmp_path / "away")
        await wait_until_async(lambda: there(tmp_path / "over"), 60, what="its end")
        fresh_server.start()
        ended = await ask.ended(task, timeout=100)
        assert ended.status(ask.api.clock.now()) == "completed", await ask.report(task)
        (curve,) = (await results.curves(ask.api, ended.id)).values()
        assert curve.iterations == list(range(6000))
        kept = await results.named(ask.api, ended, "last")
        assert await results.content(ask.api, kept) == b"words"


async def there(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 - a local file
