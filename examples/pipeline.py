"""A pipeline: steps that are tasks on queues, each with what the ones before it have made.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`.
"""

# /// script
# dependencies = []
# ///

from clearflow import Pipeline


def get_data(query_date: str) -> list[float]:
    """What was measured on a day."""
    print(f"asking for {query_date}")
    return [1.0, 2.0, 4.0]


def train(data: list[float], power: int) -> dict[str, float]:
    """A model of the data, and how far it is from it."""
    mean = (sum(x**power for x in data) / len(data)) ** (1 / power)
    return {"power": power, "error": abs(max(data) - mean)}


def pick_best(models: list[dict[str, float]]) -> float:
    """The power of the best model."""
    return min(models, key=lambda model: model["error"])["power"]


if __name__ == "__main__":
    pipe = Pipeline(name="powers", project="Examples", version="1.0")
    pipe.add_parameter("query_date", "2024-05-03")
    pipe.set_default_execution_queue("cpu")

    kwargs = {"query_date": "${pipeline.query_date}"}
    pipe.add_function_step("get", get_data, kwargs, ["data"], cache_executed_step=True)
    for power in (1, 2, 3):
        kwargs = {"data": "${get.artifacts.data}", "power": power}
        pipe.add_function_step(f"train {power}", train, kwargs, ["model"], retry_on_failure=1)
    models = [f"${{train {power}.artifacts.model}}" for power in (1, 2, 3)]
    pipe.add_function_step("pick", pick_best, {"models": models}, ["best"])

    # `pipe.start(queue="services")` sends the controller away too, and ends this program.
    pipe.start_locally()
    print("the best power:", pipe.get_pipeline_dag()["pick"].job.artifacts["best"].get())

# Last line: the best power: 3
