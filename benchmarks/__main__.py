"""All benchmarks or some: `python -m benchmarks [name …] [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    alerts,
    client,
    datasets,
    docker_start,
    environment,
    herd,
    idle_agent,
    long_queue,
    loss,
    pipelines,
    scalars,
    schedules,
    script_start,
    snapshot,
    start_latency,
    throughput,
    triggers,
)
from benchmarks.bench import Report, markdown

FULL: dict[str, Callable[[], Report]] = {
    "start_latency": start_latency.run,
    "throughput": throughput.run,
    "long_queue": long_queue.run,
    "idle_agent": idle_agent.run,
    "loss": loss.run,
    "herd": herd.run,
    "script_start": script_start.run,
    "client": client.run,
    "snapshot": snapshot.run,
    "environment": environment.run,
    "scalars": scalars.run,
    "docker_start": docker_start.run,
    "pipelines": pipelines.run,
    "schedules": schedules.run,
    "triggers": triggers.run,
    "datasets": datasets.run,
    "alerts": alerts.run,
}
QUICK: dict[str, Callable[[], Report]] = {
    "start_latency": lambda: start_latency.run(5),
    "throughput": lambda: throughput.run(20, 0),
    "long_queue": lambda: long_queue.run(1000, 10),
    "idle_agent": lambda: idle_agent.run(60.0),
    "loss": lambda: loss.run(1),
    "herd": lambda: herd.run(50, 2),
    "script_start": lambda: script_start.run(5),
    "client": lambda: client.run(5),
    "snapshot": lambda: snapshot.run(2, 500, 5),
    "environment": lambda: environment.run(1),
    "scalars": lambda: scalars.run(1000, 3),
    "docker_start": lambda: docker_start.run(5),
    "pipelines": lambda: pipelines.run(5),
    "schedules": lambda: schedules.run(50),
    "triggers": lambda: triggers.run(5),
    "datasets": lambda: datasets.run(1, 2000, 256),
    "alerts": lambda: alerts.run(100),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(FULL))
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers there")
    asked = parser.parse_args()
    chosen = QUICK if asked.quick else FULL
    if unknown := set(asked.names) - set(chosen):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    reports, loads = [], {}
    for name in asked.names or chosen:
        before = os.getloadavg()[0]
        print(f"{name} …", file=sys.stderr, flush=True)
        reports.append(chosen[name]())
        loads[name] = (before, os.getloadavg()[0])
        for row in reports[-1].rows:
            print(f"  {row.what}: {row.measured}", file=sys.stderr, flush=True)
    print(markdown(reports))
    print()
    print(f"{os.cpu_count()} processors; load average before and after:", end=" ")
    print(", ".join(f"{name} {a:.1f} {b:.1f}" for name, (a, b) in loads.items()))
    if asked.json:
        data = {r.name: {"load": loads[r.name], **r.numbers} for r in reports}
        asked.json.write_text(json.dumps(data, indent=2, default=str))
    return 0 if all(row.met is not False for r in reports for row in r.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
