"""Keep what trainings make as models, publish the best one, and start another task from it.

Needs a server: `clearflow up`. Models lie in the store; `clearflow model ls` lists them.
"""

import json
import tempfile
from pathlib import Path

from clearflow import InputModel, Model, Task

ACCURACY = {2: 0.91, 4: 0.97, 8: 0.95}

if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp())
    for depth, accuracy in ACCURACY.items():
        task = Task.init("Examples", f"depth {depth}")
        weights = folder / "digits.json"
        weights.write_text(json.dumps({"depth": depth}))
        model = task.upload_model(weights, "digits", framework="JSON", tags=["candidate"])
        model.report_single_value("accuracy", accuracy)
        task.close()

    best = Model.query("Examples", tags=["candidate"], order_by="-metrics.accuracy")[0]
    best.add_tags("production")
    best.publish()

    task = Task.init("Examples", "evaluation")
    model = InputModel(name="digits", project="Examples", tags=["production"])
    model.connect(name="start")  # the parameter Models/start, which a clone may change
    depth = json.loads(Path(model.get_local_copy()).read_text())["depth"]
    task.close()

    lineage = model.get_lineage()
    made, used = lineage["task"]["name"], lineage["used_by"][-1]["name"]
    print(f"depth {depth}, accuracy {model.get_metrics()['accuracy']}, of {made}, used by {used}")

# Last line: depth 4, accuracy 0.97, of depth 4, used by evaluation
