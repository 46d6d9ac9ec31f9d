"""A training as people write it: its command line says how; nothing runs here."""

# /// script
# dependencies = []
# ///

import argparse

from clearflow import Task

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=3)
arguments = parser.parse_args()

task = Task.init(project_name="Examples", task_name="train")
loss = 1.0
for _ in range(arguments.epochs):
    loss *= 1 - arguments.rate
task.set_user_properties(loss=round(loss, 3))
