"""A real training, small enough for any laptop: a linear classifier of handwritten digits.

A script as people write it. Where it runs, an environment with scikit-learn is built for it.
"""

# /// script
# dependencies = ["scikit-learn"]
# ///

from __future__ import annotations

import argparse
import os

# Two trainings at once: one that takes all processors slows both down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import (
    train_test_split,
)

from clearflow import Task


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn to read 1,797 digits.")
    parser.add_argument("--loss", default="hinge")
    parser.add_argument("--alpha", type=float, default=0.0001)
    parser.add_argument("--epochs", type=int, default=500)
    asked = parser.parse_args()
    task = Task.init(project_name="Quickstart", task_name="digits")

    pixels, digits = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(pixels / 16, digits, test_size=0.3, random_state=1)
    print(f"{len(x)} digits to learn from, {len(x_test)} to be tested with")
    logger = task.get_logger()
    model = SGDClassifier(loss=asked.loss, alpha=asked.alpha, random_state=1)
    for epoch in range(1, asked.epochs + 1):
        model.partial_fit(x, y, classes=range(10))
        if epoch % 100 == 0 or epoch == asked.epochs:
            accuracy = float(model.score(x_test, y_test))
            print(f"epoch {epoch}/{asked.epochs}: accuracy {accuracy:.4f}")
            logger.report_scalar("accuracy", "held back", accuracy, epoch)
            task.set_user_properties(accuracy=accuracy)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("stopped: somebody has aborted this") from None
