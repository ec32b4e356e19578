"""What is handed over of each image: one column for everything that a table can hold."""

from typing import Any

from clusterloom.data import ImageSet
from clusterloom.errors import printable
from clusterloom.survey import Survey
from clusterloom.tables import prediction_columns


def image_columns(images: ImageSet, survey: Survey) -> dict[str, Any]:
    """One row per image, by column: what `predict` writes, the place on the map, and the label where there is one.

    Args:
        images: The images, N of them.
        survey: What the model says of them.

    Returns:
        id, cluster, probability, runner_up, runner_up_probability, score (nats), outlier, x, y (both from 0 to 1), and
        label, the name of the true class, where the images have labels. Ids and labels are printable text.
    """
    predicted = {"proba": survey.proba, "score": survey.score, "outlier": survey.outlier}
    columns = prediction_columns([printable(id_) for id_ in images.ids], predicted)
    columns |= {"x": survey.position[:, 0], "y": survey.position[:, 1]}
    if images.labels is not None:
        columns["label"] = [printable(images.class_names[label]) for label in images.labels]
    return columns
