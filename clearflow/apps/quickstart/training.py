"""A real training, small enough for any laptop: handwritten digits, a network of one layer.

A plain Prefect flow that knows nothing of clearflow. scikit-learn is imported where it is used:
whoever enqueues the flow need not have it, as the agent builds the environment.
"""

from prefect import flow
from prefect.artifacts import create_table_artifact

REQUIREMENTS = ["scikit-learn"]


@flow(name="digits")
def train(hidden: int = 32, learning_rate: float = 0.01, epochs: int = 60) -> float:
    """Train on scikit-learn's own 1,797 digits; the accuracy on those held back."""
    from sklearn.datasets import load_digits  # type: ignore[import-not-found,unused-ignore]
    from sklearn.model_selection import (  # type: ignore[import-not-found,unused-ignore]
        train_test_split,
    )
    from sklearn.neural_network import (  # type: ignore[import-not-found,unused-ignore]
        MLPClassifier,
    )

    pixels, digits = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(pixels / 16, digits, test_size=0.3, random_state=1)
    print(f"{len(x)} digits to learn from, {len(x_test)} to be tested with")
    model = MLPClassifier((hidden,), learning_rate_init=learning_rate, random_state=1)
    accuracy = 0.0
    for epoch in range(1, epochs + 1):
        model.partial_fit(x, y, classes=range(10))
        if epoch % 10 == 0 or epoch == epochs:
            accuracy = float(model.score(x_test, y_test))
            print(f"epoch {epoch}/{epochs}: loss {model.loss_:.4f}, accuracy {accuracy:.4f}")
    create_table_artifact(
        key="digits-accuracy",
        table=[{"hidden": hidden, "learning_rate": learning_rate, "accuracy": accuracy}],
        description="Accuracy on digits the network has not seen",
    )
    return accuracy
