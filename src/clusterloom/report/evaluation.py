"""Clusters against true labels, as the page shows them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clusterloom.metrics import (
    CalibrationBin,
    calibration_bins,
    expected_calibration_error,
    label_scores,
    matched_images,
    per_class_table,
)
from clusterloom.predictions import Predictions
from clusterloom.report.clusters import Seen
from clusterloom.report.numbers import percent

_SURE = 0.9


@dataclass(frozen=True)
class Evaluation:
    """Scores against labels.

    Attributes:
        scores: Accuracy, purity, NMI, ARI by name, with corrections if there are any.
        own_scores: Those of the model alone.
        calibration_error: Expected calibration error.
        columns: Clusters in the order of the classes that they are matched with, unmatched ones last.
        rows: For each class its name, its images in each of `columns`, and the place of its own cluster or None.
        bins: Of the calibration chart, those that have images.
        worth: How often images that the model is sure of are right, and those that it is not sure of, in words.
    """

    scores: Mapping[str, float]
    own_scores: Mapping[str, float]
    calibration_error: float
    columns: list[int]
    rows: list[tuple[str, list[int], int | None]]
    bins: list[CalibrationBin]
    worth: str


def evaluation(seen: Seen) -> Evaluation | None:
    """Compare what is said of images with their labels; None where there are none.

    Scores and the table are of all images, what is said of probabilities is of those that are shown.

    Args:
        seen: The images, with the corrections of a user, if there are any; the model's own probabilities are held
            against the labels.
    """
    if seen.labels is None:
        return None
    said, own, labels = seen.counted, seen.own, seen.labels if seen.totals is None else seen.all_labels
    assert labels is not None, "all images have labels where those that are shown have"
    true, names, pred = labels.numbers, labels.names, said.labels
    counts = np.zeros((len(names), said.n_clusters), np.int64)
    np.add.at(counts, (true, pred), 1)
    matched = {row.label: row.cluster for row in per_class_table(true, pred)}
    columns = [cluster for cluster in matched.values() if cluster is not None]
    there = np.flatnonzero(said.sizes).tolist() if seen.corrections is not None else range(said.n_clusters)
    columns += [k for k in there if k not in columns]
    scores = label_scores(true, pred)
    true = seen.labels.numbers
    return Evaluation(
        scores=scores,
        own_scores=label_scores(true, own.labels) if seen.totals is None else scores,
        calibration_error=expected_calibration_error(true, own.proba),
        columns=columns,
        rows=[
            (names[label], counts[label, columns].tolist(), None if cluster is None else columns.index(cluster))
            for label, cluster in matched.items()
        ],
        bins=[b for b in calibration_bins(true, own.proba) if b.images],
        worth=_worth(true, own),
    )


def _worth(labels_true: np.ndarray, own: Predictions) -> str:
    right, sure = matched_images(labels_true, own.labels), own.confidence >= _SURE
    told = [
        f"of the {rows.sum():,} images with a probability {where} {percent(_SURE, 0)}, {percent(right[rows].mean())}"
        for rows, where in ((sure, "of at least"), (~sure, "below"))
        if rows.any()
    ]
    return f"Right, measured on these labels, are {'; '.join(told)}."
