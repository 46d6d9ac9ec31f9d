"""The smallest flow there is. It knows nothing of queues, agents or clearflow."""

from prefect import flow


@flow
def greet(name: str = "world") -> str:
    print(f"Hello, {name}!")
    return name
