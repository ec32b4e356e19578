"""Clusters against true labels, as the page shows them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clusterloom.metrics import (
    CalibrationBin,
    calibration_bins,
    expected_calibration_error,
    label_scores,
    per_class_table,
)
from clusterloom.predictions import Predictions
from clusterloom.tables import Labels


@dataclass(frozen=True)
class Evaluation:
    """Scores against labels.

    Attributes:
        scores: Accuracy, purity, NMI, ARI by name.
        calibration_error: Expected calibration error.
        columns: Clusters in the order of the classes that they are matched with, unmatched ones last.
        rows: For each class its name, its images in each of `columns`, and the place of its own cluster or None.
        bins: Of the calibration chart, those that have images.
    """

    scores: Mapping[str, float]
    calibration_error: float
    columns: list[int]
    rows: list[tuple[str, list[int], int | None]]
    bins: list[CalibrationBin]


def evaluation(predictions: Predictions, labels: Labels) -> Evaluation:
    """Compare what a model says of images with their labels."""
    true, names, pred = labels.numbers, labels.names, predictions.labels
    counts = np.zeros((len(names), predictions.n_clusters), np.int64)
    np.add.at(counts, (true, pred), 1)
    own = {row.label: row.cluster for row in per_class_table(true, pred)}
    columns = [cluster for cluster in own.values() if cluster is not None]
    columns += [k for k in range(predictions.n_clusters) if k not in columns]
    return Evaluation(
        scores=label_scores(true, pred),
        calibration_error=expected_calibration_error(true, predictions.proba),
        columns=columns,
        rows=[
            (names[label], counts[label, columns].tolist(), None if cluster is None else columns.index(cluster))
            for label, cluster in own.items()
        ],
        bins=[b for b in calibration_bins(true, predictions.proba) if b.images],
    )
