"""Queue a decorated Prefect flow with several parameters, and wait for what comes of it.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`.
"""

from prefect import flow

from clearflow import enqueue


@flow
def train(rate: float = 0.1, epochs: int = 3) -> float:
    loss = 1.0
    for epoch in range(epochs):
        loss *= 1 - rate
        print(f"epoch {epoch}: loss {loss:.3f}")
    return loss


if __name__ == "__main__":
    tasks = [
        enqueue(
            train,
            queue="cpu",
            parameters={"rate": rate},
            project="Examples",
            name=f"train at {rate}",
        )
        for rate in (0.1, 0.3, 0.5)
    ]
    ended = [task.wait(timeout=300) for task in tasks]
    for task in tasks:
        print(task.name, task.url, *task.logs(), sep="\n  ")
    print("ended:", ", ".join(ended))

# Last line: ended: completed, completed, completed
