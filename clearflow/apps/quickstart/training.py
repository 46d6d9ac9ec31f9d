"""A real training, small enough for any laptop: a linear classifier of handwritten digits.

A plain Prefect flow that knows nothing of clearflow. scikit-learn is imported where it is used:
whoever enqueues the flow need not have it, as the agent builds the environment.
"""

from prefect import flow
from prefect.artifacts import create_table_artifact

REQUIREMENTS = ["scikit-learn"]


@flow(name="digits")
def train(loss: str = "hinge", alpha: float = 0.0001, epochs: int = 500) -> float:
    """Train on scikit-learn's own 1,797 digits; the accuracy on those held back."""
    from sklearn.datasets import load_digits  # type: ignore[import-not-found,unused-ignore]
    from sklearn.linear_model import (  # type: ignore[import-not-found,unused-ignore]
        SGDClassifier,
    )
    from sklearn.model_selection import (  # type: ignore[import-not-found,unused-ignore]
        train_test_split,
    )

    pixels, digits = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(pixels / 16, digits, test_size=0.3, random_state=1)
    print(f"{len(x)} digits to learn from, {len(x_test)} to be tested with")
    model = SGDClassifier(loss=loss, alpha=alpha, random_state=1)
    accuracy = 0.0
    for epoch in range(1, epochs + 1):
        model.partial_fit(x, y, classes=range(10))
        if epoch % 100 == 0 or epoch == epochs:
            accuracy = float(model.score(x_test, y_test))
            print(f"epoch {epoch}/{epochs}: accuracy {accuracy:.4f}")
    create_table_artifact(
        key="digits-accuracy",
        table=[{"loss": loss, "alpha": alpha, "epochs": epochs, "accuracy": accuracy}],
        description="Accuracy on digits the classifier has not seen",
    )
    return accuracy
