"""What is handed over of each image: one column for everything that a table can hold."""

from typing import Any

from clusterloom.corrections.apply import corrected_columns
from clusterloom.corrections.assignment import Assignment
from clusterloom.data.images import ImageSet
from clusterloom.errors import printable
from clusterloom.predictions import Predictions
from clusterloom.tables import prediction_columns


def image_columns(images: ImageSet, predictions: Predictions, corrections: Assignment | None = None) -> dict[str, Any]:
    """One row per image, by column: what `predict` writes, the place on the map, and the label where there is one.

    Args:
        images: The images, N of them.
        predictions: What the model says of them.
        corrections: The clusters as a user has corrected them; None where nobody has.

    Returns:
        id, cluster (with corrections also name, changed, marked and model_cluster), probability, runner_up,
        runner_up_probability, score (nats), outlier, x, y (both from 0 to 1), and
        label, the name of the true class, where the images have labels.
    """
    said = {"proba": predictions.proba, "score": predictions.score, "outlier": predictions.outlier}
    columns = prediction_columns(images.ids, said)
    if corrections is not None:
        columns = corrected_columns(columns, corrections)
    columns |= {"x": predictions.position[:, 0], "y": predictions.position[:, 1]}
    if images.labels is not None:
        columns["label"] = [printable(images.class_names[label]) for label in images.labels]
    return columns
