"""A flow that sleeps for long when it is started for the first time."""

import time
from pathlib import Path

from prefect import flow


@flow
def sleeps_once(stamp: str) -> None:
    if not Path(stamp).exists():
        Path(stamp).touch()
        time.sleep(600)
