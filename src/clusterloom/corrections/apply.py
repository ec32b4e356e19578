"""What corrections make of a model's word: columns of a table, probabilities, and places of clusters on the map."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from clusterloom.corrections.assignment import CONFIRMED, OUTLIER, UNSEEN, Assignment

MARK_NAMES: Mapping[int, str] = {UNSEEN: "", CONFIRMED: "confirmed", OUTLIER: "outlier"}


def corrected_columns(columns: Mapping[str, Any], assignment: Assignment) -> dict[str, Any]:
    """A table of predictions with what a user has said of each image.

    Args:
        columns: Of `clusterloom.tables.prediction_columns`, for N images.
        assignment: Of the same images.

    Returns:
        id, cluster as corrected, name, changed (whether the model had put the image elsewhere), marked (confirmed,
        outlier, or empty), model_cluster, and the other columns, which are the model's own word.
    """
    others = dict(columns)
    identifiers, model_cluster = others.pop("id"), others.pop("cluster")
    return {
        "id": identifiers,
        "cluster": assignment.labels,
        "name": [assignment.names[k] for k in assignment.labels.tolist()],
        "changed": assignment.labels != model_cluster,
        "marked": [MARK_NAMES[mark] for mark in assignment.marks.tolist()],
        "model_cluster": model_cluster,
        **others,
    }


def corrected_probabilities(proba: np.ndarray, assignment: Assignment) -> np.ndarray:
    """Probabilities of the clusters that there are now, as `probabilities_of`, and certainty where a user has answered.

    Args:
        proba: Of the model's clusters, shape (N, K).
        assignment: Of the same images.

    Returns:
        Shape (N, M), float32, M one more than the largest number that a cluster has had; rows sum to 1.
    """
    result = probabilities_of(proba, assignment)
    sure = np.flatnonzero(assignment.marks == CONFIRMED)
    result[sure] = 0
    result[sure, assignment.labels[sure]] = 1
    return result


def probabilities_of(proba: np.ndarray, assignment: Assignment) -> np.ndarray:
    """What the model says of the clusters that there are now.

    The probability of a merged cluster goes to the one that took its images. That of the model's cluster goes to the
    one in which a user has put an image by splitting, wherever that part is now. What a user has said of single images
    is left out: keeping an image in its part is no evidence against the rest of the cluster.

    Args:
        proba: Of the model's clusters, shape (N, K).
        assignment: Of the same images.

    Returns:
        As `corrected_probabilities`.
    """
    result = np.zeros((len(proba), assignment.next_number), np.float32)
    owners = np.array([assignment.owner(k) for k in range(proba.shape[1])])
    for k, owner in enumerate(owners):
        result[:, owner] += proba[:, k]
    own = owners[proba.argmax(1)]
    put = np.flatnonzero(assignment.parted & (assignment.labels != own))
    result[put, assignment.labels[put]] += result[put, own[put]]
    result[put, own[put]] = 0
    return result


def cluster_places(model_middles: np.ndarray, position: np.ndarray, assignment: Assignment) -> np.ndarray:
    """Where clusters lie for choosing their colours: the model's where it has them, a user's where each began.

    Args:
        model_middles: Of the model's clusters, shape (K, 2).
        position: Places of all images on the map, shape (N, 2).
        assignment: Of the same images.

    Returns:
        Shape (M, 2), in the order of the clusters' numbers. No edit changes the place of a cluster that there is.
    """
    began = [np.median(position[rows], 0) for _, rows in sorted(assignment.founders.items())]
    return np.vstack([model_middles, *began])
