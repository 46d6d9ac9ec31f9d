"""A flow that ends when it is told to."""

import os
import time
from pathlib import Path

from prefect import flow


@flow
def until_told(folder: str, name: str) -> str:
    """Runs until the file `<name>.go` appears."""
    Path(folder, f"{name}.running").touch()
    print(f"{name} started")
    print("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
    while not Path(folder, f"{name}.go").exists():
        time.sleep(0.02)
    return name
