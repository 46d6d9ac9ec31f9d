"""Be told of every task that ends, also of those that ended while nobody listened.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`. To tell a
Slack channel there is `clearflow monitor slack --channel '#training'`.
"""

from prefect import flow

from clearflow import Monitor, Task, enqueue


@flow
def check(number: int) -> None:
    if number == 2:
        raise ValueError(f"{number} is not what was expected")


class Watcher(Monitor):
    def __init__(self) -> None:
        super().__init__("examples: watcher")
        self.seen: dict[str, str] = {}
        self.set_projects(["Examples: monitor"])

    def process_task(self, task: Task) -> None:
        self.seen[task.name] = task.status
        print(f"{task.name}: {task.status}")


if __name__ == "__main__":
    watcher = Watcher()
    watcher.monitor_step()  # from now on it remembers how far it came
    for number in (1, 2):
        enqueue(
            check,
            queue="cpu",
            parameters={"number": number},
            project="Examples: monitor",
            name=f"check {number}",
        )
    while len(watcher.seen) < 2:
        watcher.monitor_step(timeout=10)
    watcher.close()
    print("told of:", ", ".join(f"{name} {how}" for name, how in sorted(watcher.seen.items())))

# Last line: told of: check 1 completed, check 2 failed
