"""A flow that ends when it is told to."""

import time
from pathlib import Path

from prefect import flow


@flow
def until_told(folder: str, name: str) -> str:
    """Runs until the file `<name>.go` appears."""
    Path(folder, f"{name}.running").touch()
    print(f"{name} started")
    while not Path(folder, f"{name}.go").exists():
        time.sleep(0.02)
    return name
