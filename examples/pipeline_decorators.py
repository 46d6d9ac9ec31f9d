"""A pipeline as ordinary Python: what a step returns is a promise that others can go on with.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`.
"""

# /// script
# dependencies = []
# ///

from clearflow import component, pipeline


@component(return_values=["data"], cache=True)
def get_data(query_date: str) -> list[float]:
    """What was measured on a day."""
    print(f"asking for {query_date}")
    return [1.0, 2.0, 4.0]


@component(return_values=["scaled", "largest"])
def scale(data: list[float]) -> tuple[list[float], float]:
    """The data between 0 and 1, and what it was divided by."""
    return [x / max(data) for x in data], max(data)


@component(return_values=["mean"])
def mean(data: list[float]) -> float:
    """The mean of it."""
    return sum(data) / len(data)


# With `pipeline_execution_queue="services"`, the default, the controller is sent away too.
@pipeline(name="scaling", project="Examples", default_queue="cpu", pipeline_execution_queue=None)
def scaling(query_date: str = "2024-05-03") -> float:
    data = get_data(query_date)
    scaled, largest = scale(data)  # passed on: nothing of it is loaded here
    if largest > 3:  # waits for the step
        return mean(scaled)
    return mean(data)


if __name__ == "__main__":
    result = scaling()
    print(f"the mean: {result:.3f}")

# Last line: the mean: 0.583
