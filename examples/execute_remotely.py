"""One line sends the rest of a script to a queue: it begins here and runs there.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`.
"""

# /// script
# dependencies = []
# ///

from clearflow import Task

if __name__ == "__main__":
    task = Task.init(project_name="Examples", task_name="execute remotely")
    parameters = task.connect({"rate": 0.3, "epochs": 3})
    print("checked here that it starts")

    task.execute_remotely(queue_name="cpu")

    # Only an agent comes to this line.
    loss = 1.0
    for epoch in range(parameters["epochs"]):
        loss *= 1 - parameters["rate"]
        print(f"epoch {epoch}: loss {loss:.3f}")

# Last line: checked here that it starts
