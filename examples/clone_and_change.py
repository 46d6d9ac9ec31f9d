"""Clone a task, change a parameter of each clone, queue them, and take the best.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`.
"""

from pathlib import Path

from clearflow import Task

if __name__ == "__main__":
    script = Path(__file__).parent / "scripts" / "train.py"
    template = Task.create(project_name="Examples", task_name="template", script=str(script))

    clones = []
    for rate in (0.1, 0.3, 0.5):
        clone = Task.clone(template, name=f"train at {rate}")
        clone.set_parameter("Args/rate", rate)
        clones.append(Task.enqueue(clone, queue_name="cpu"))

    for clone in clones:
        print(f"{clone.name}: {clone.wait()}")
    best = min(clones, key=lambda clone: clone.get_user_properties()["loss"])
    print(f"the best is {best.name}, with a loss of {best.get_user_properties()['loss']}")

# Last line: the best is train at 0.5, with a loss of 0.125
