"""Search parameters: copies of a task, each with values that were chosen after those before it.

Needs a server: `clearflow up`. The search is a task itself, which agents of the queue `services`
run, as those of `execution_queue` run its trials; `start_locally` starts an agent here for both.
"""

from clearflow import (
    DiscreteParameterRange,
    HyperParameterOptimizer,
    LogUniformParameterRange,
    OptimizerOptuna,
    Task,
)


def train(rate: float, depth: int) -> float:
    return (rate - 0.01) ** 2 + abs(depth - 4)


if __name__ == "__main__":
    task = Task.init("Examples: search", "train")
    params = task.connect({"rate": 0.1, "depth": 2})
    loss = train(params["rate"], params["depth"])
    task.get_logger().report_scalar("loss", "validation", value=loss, iteration=0)
    print(f"rate {params['rate']:.5f}, depth {params['depth']}: loss {loss:.5f}")

    if Task.running_locally():  # the trials are copies of this very program
        task.close()
        optimizer = HyperParameterOptimizer(
            base_task_id=task.id,
            hyper_parameters=[
                LogUniformParameterRange("General/rate", -4, -1),  # 0.0001 to 0.1
                DiscreteParameterRange("General/depth", [2, 4]),
            ],
            objective_metric_title="loss",
            objective_metric_series="validation",
            objective_metric_sign="min",
            optimizer_class=OptimizerOptuna,
            max_number_of_concurrent_tasks=2,
            total_max_jobs=4,
            seed=1,
        )
        optimizer.start_locally()
        optimizer.wait()
        for trial in optimizer.get_trials():
            print(trial["trial"], trial["status"], trial["metrics"])
        best = optimizer.get_top_experiments(1)[0]
        print("best depth:", best.get_parameter("General/depth"))

# Last line: best depth: 4
