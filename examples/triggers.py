"""Bob tags a version of a dataset, and Alice's latest stable training runs on it, by itself.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`. What happened
is looked at by agents of the queue `services`; here the agent of `cpu` does that too. The dataset
lies in this machine's own store, or in the one that `clearflow store set` names.
"""

import time
from pathlib import Path
from tempfile import mkdtemp

from prefect import flow

from clearflow import Dataset, Task, TriggerScheduler, enqueue

ALICE, BOB = "Examples: Project Alice", "Examples: Project Bob"


@flow
def train(dataset: str = "") -> None:
    if dataset:
        data = Dataset.get(dataset_id=dataset)
        words = (Path(data.get_local_copy()) / "words.txt").read_text()
        print(f"trained on {data.name} {data.version}: {words}")


def triggered(count: int) -> list[Task]:
    """The tasks that the trigger has launched, once there are so many: they carry its name."""
    while True:
        found = Task.get_tasks(project_name=ALICE, tags=["fresh data"])
        if len(found) == count:
            return found
        time.sleep(0.2)


if __name__ == "__main__":
    enqueue(train, queue="cpu", project=ALICE, name="Model Training", tags=["stable"]).wait()

    # Bob has data; Alice waits for what he calls good enough.
    data = Path(mkdtemp())
    (data / "words.txt").write_text("one")
    first = Dataset.create("numbers", BOB)
    first.add_files(data)
    first.finalize(auto_upload=True)

    triggers = TriggerScheduler("retraining", project_name=ALICE)
    triggers.add_dataset_trigger(
        selector={"project": ALICE, "name": "Model Training", "tags": ["stable"]},
        schedule_queue="cpu",
        name="fresh data",
        trigger_project=BOB,
        trigger_on_tags=["production"],
        task_parameters={"dataset": "${dataset.id}"},
    )
    triggers.start_remotely(queue="cpu")  # made so in Prefect; this program may end

    first.add_tags(["production"])
    (one,) = triggered(1)
    one.wait()

    (data / "words.txt").write_text("one two")
    second = Dataset.create(parent_datasets=[first])
    second.sync_folder(data)
    second.add_tags(["production"])  # a draft: nothing happens until it is finalized
    second.finalize(auto_upload=True)
    for task in triggered(2):
        task.wait()
        print(*[line for line in task.logs() if "trained on" in line])
    triggers.remove_trigger("fresh data")
    print("left:", len(triggers.get_triggers()), "triggers; launched:", len(triggered(2)))

# Last line: left: 0 triggers; launched: 2
