"""Report what a training does: curves, a table, a model; and find it again from any program.

Needs a server: `clearflow up`. The Prefect UI shows it among the artifacts of the run.
"""

from clearflow import Task

if __name__ == "__main__":
    task = Task.init("Examples", "results")
    logger = task.get_logger()
    loss = 1.0
    for iteration in range(100):
        loss *= 0.95
        logger.report_scalar("loss", "train", value=loss, iteration=iteration)
        logger.report_scalar("loss", "validation", value=loss + 0.1, iteration=iteration)
    logger.report_single_value("accuracy", 0.97)
    rows = [["digit", "right", "wrong"], ["0", 98, 2], ["1", 96, 4]]
    logger.report_table("digits", "test", iteration=99, table_plot=rows)
    logger.report_confusion_matrix("confusion", "test", [[98, 2], [4, 96]], iteration=99)
    task.upload_artifact("model", {"weights": [0.25, 0.5]})
    task.close()

    found = Task.get_task(project_name="Examples", task_name="results")
    model = found.artifacts["model"].get()
    last = found.get_last_scalar_metrics()["loss"]["train"]["last"]
    print(
        f"{found.get_last_iteration() + 1} iterations, loss {last:.4f}, weights", model["weights"]
    )

# Last line: 100 iterations, loss 0.0059, weights [0.25, 0.5]
