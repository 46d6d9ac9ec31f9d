"""The flow that chaos falls upon: it beats into a file of its own process."""

import os
import time

from prefect import flow
from prefect.runtime import flow_run

EVERY = 0.02


@flow
def beats(folder: str, seconds: float) -> int:
    task, claim = flow_run.id, os.environ["CLEARFLOW_CLAIM"]
    path = f"{folder}/{task}.{claim}.{os.getpid()}.beats"
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def mark(word: str) -> None:
        os.write(file, f"{word} {time.time():.6f}\n".encode())

    mark("start")
    count = round(seconds / EVERY)
    for _ in range(count):
        time.sleep(EVERY)
        mark("beat")
    mark("end")
    return count
