"""A flow with tasks that are tried again, a task runner and a subflow."""

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner


@task(retries=2, retry_delay_seconds=1)
def count_words(text: str) -> int:
    return len(text.split())


@flow
def total(numbers: list[int]) -> int:
    return sum(numbers)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def report(pages: tuple[str, ...] = ("one two three", "four five", "six")) -> int:
    counts = count_words.map(list(pages)).result()
    words = total(counts)
    print(f"{len(pages)} pages, {words} words")
    return words
