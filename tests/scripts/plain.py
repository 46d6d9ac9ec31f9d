"""A script that does one thing with these parameters: `plain.py until_told '{"folder": …}'`."""

import json
import os
import sys
import time
from pathlib import Path

# Whoever looks for the processes of tasks finds them by this name.
Path("/proc/self/comm").write_text("cf-task")


def completes() -> None:
    print("says hello")


def until_told(folder: str, name: str) -> None:
    """Runs until the gate `<name>.go` is open."""
    Path(folder, f"{name}.running").touch()
    print(f"{name} started")
    shows_gpus()
    Path(folder, f"{name}.go").read_bytes()


def shows_gpus() -> None:
    print("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))


def numbered(folder: str) -> None:
    """The first start runs until `1.go` is open, the second until `2.go`, and so on."""
    number = len(list(Path(folder).glob("*.started"))) + 1
    Path(folder, f"{number}.started").touch()
    Path(folder, f"{number}.go").read_bytes()
    Path(folder, f"{number}.over").touch()


def counts(folder: str, seconds: float) -> None:
    """Prints a line and beats into a file of its own process, fifty times a second."""
    path = Path(folder, f"{os.environ['CLEARFLOW_CLAIM']}.{os.getpid()}.beats")
    for n in range(round(seconds / 0.02)):
        with path.open("a") as file:
            file.write(f"{time.time():.6f}\n")
        print(f"line {n}", flush=True)
        time.sleep(0.02)


globals()[sys.argv[1]](**json.loads(sys.argv[2]))
