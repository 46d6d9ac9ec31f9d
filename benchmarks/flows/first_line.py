"""The trivial flow: its first line tells the time."""

import time
from pathlib import Path

from prefect import flow


@flow
def first_line(stamp: str) -> None:
    Path(stamp).write_text(str(time.time()))
