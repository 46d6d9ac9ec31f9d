"""A plain Prefect program: nothing of clearflow is imported, and its agents run the flow.

The work pool makes the difference. Needs a server and an agent: `clearflow up`, and
`clearflow agent start --queue cpu`.
"""

from pathlib import Path

from prefect import flow
from prefect.deployments import run_deployment


@flow
def greet(name: str = "world") -> None:
    print(f"Hello, {name}!")


if __name__ == "__main__":
    here = Path(__file__)
    found = flow.from_source(str(here.parent), entrypoint=f"{here.name}:greet")
    found.deploy("plain", work_pool_name="clearflow", work_queue_name="cpu", print_next_steps=False)
    run = run_deployment("greet/plain", parameters={"name": "queue"}, poll_interval=0.5)
    print("the run has ended:", run.state.type.value)

# Last line: the run has ended: COMPLETED
