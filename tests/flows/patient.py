"""A flow that ends when it is told to."""

import os
from pathlib import Path

from prefect import flow


@flow
def until_told(folder: str, name: str) -> str:
    """Runs until the gate `<name>.go` is open."""
    Path(folder, f"{name}.running").touch()
    print(f"{name} started")
    print("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
    Path(folder, f"{name}.go").read_bytes()
    return name
