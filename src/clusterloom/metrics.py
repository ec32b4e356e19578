"""Scores of a clustering: against labels that training never saw, and without any labels.

Argument order and naming follow scikit-learn: `labels_true, labels_pred`; a `*_score` rises with quality.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.metrics.cluster import contingency_matrix

from clusterloom.errors import DataError


def clustering_accuracy_score(labels_true: np.ndarray, labels_pred: np.ndarray) -> float:
    """Accuracy under the best one-to-one matching of clusters to classes (Hungarian algorithm).

    Where there are more clusters than classes, the unmatched clusters' images count as wrong.

    Args:
        labels_true: Classes, shape (N,).
        labels_pred: Clusters, shape (N,).

    Returns:
        Between 0 and 1; never above `majority_vote_purity_score`.

    Raises:
        DataError: the lengths differ or there are no labels.

    Example:
        >>> clustering_accuracy_score([0, 0, 1, 1], [1, 1, 0, 2])
        0.75
    """
    counts = _contingency(labels_true, labels_pred)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / counts.sum())


def matched_images(labels_true: np.ndarray, labels_pred: np.ndarray) -> np.ndarray:
    """Which images are right under the one-to-one matching of `clustering_accuracy_score`.

    Args:
        labels_true: Classes, shape (N,).
        labels_pred: Clusters, shape (N,).

    Returns:
        Whether an image's cluster is the one matched to its class, shape (N,), bool.

    Raises:
        DataError: the lengths differ or there are no labels.

    Example:
        >>> matched_images([0, 0, 1, 1], [1, 1, 0, 2]).tolist()
        [True, True, True, False]
    """
    rows, columns = linear_sum_assignment(_contingency(labels_true, labels_pred), maximize=True)
    (_, true), (_, pred) = (np.unique(side, return_inverse=True) for side in (labels_true, labels_pred))
    class_of = np.full(pred.max() + 1, -1)
    class_of[columns] = rows
    right: np.ndarray = class_of[pred] == true
    return right


def majority_vote_purity_score(labels_true: np.ndarray, labels_pred: np.ndarray) -> float:
    """Accuracy when every cluster is given the most frequent class of its members: many clusters may share a class.

    Some papers call this accuracy. It rises with the number of clusters, to 1 for one image each.

    Args:
        labels_true: Classes, shape (N,).
        labels_pred: Clusters, shape (N,).

    Returns:
        Between 0 and 1.

    Raises:
        DataError: the lengths differ or there are no labels.

    Example:
        >>> majority_vote_purity_score([0, 0, 1, 1], [1, 1, 0, 2])
        1.0
    """
    counts = _contingency(labels_true, labels_pred)
    return float(counts.max(0).sum() / counts.sum())


def normalized_mutual_information_score(labels_true: np.ndarray, labels_pred: np.ndarray) -> float:
    """NMI with the arithmetic mean of the two entropies in the denominator, pinned here because conventions differ.

    Args:
        labels_true: Classes, shape (N,).
        labels_pred: Clusters, shape (N,).

    Returns:
        Between 0 and 1.
    """
    return float(normalized_mutual_info_score(labels_true, labels_pred, average_method="arithmetic"))


@dataclass(frozen=True)
class ClassRow:
    """How one class fared under the one-to-one matching.

    Attributes:
        label: The class, as given in `labels_true`.
        images: Its images.
        cluster: The cluster matched to it, or None where there are fewer clusters than classes.
        recall: Share of its images that lie in that cluster.
        precision: Share of that cluster's images that are of this class.
        confused_with: The class, among those with a cluster, that most of its other images were sorted with, or None.
    """

    label: int
    images: int
    cluster: int | None
    recall: float
    precision: float
    confused_with: int | None


def per_class_table(labels_true: np.ndarray, labels_pred: np.ndarray) -> list[ClassRow]:
    """One row per class, in ascending order, under the matching of `clustering_accuracy_score`.

    Args:
        labels_true: Classes, shape (N,).
        labels_pred: Clusters, shape (N,).

    Returns:
        The rows.

    Raises:
        DataError: the lengths differ or there are no labels.

    Example:
        >>> [(row.label, row.cluster, row.recall, row.precision) for row in per_class_table([3, 3, 7], [1, 0, 0])]
        [(3, 1, 0.5, 1.0), (7, 0, 1.0, 0.5)]
    """
    counts = _contingency(labels_true, labels_pred)
    classes, clusters = np.unique(labels_true).tolist(), np.unique(labels_pred).tolist()
    matched = dict(zip(*(side.tolist() for side in linear_sum_assignment(counts, maximize=True)), strict=True))
    class_of = {column: classes[row] for row, column in matched.items()}
    table = []
    for row, label in enumerate(classes):
        column = matched.get(row)
        images, hit = int(counts[row].sum()), 0 if column is None else int(counts[row, column])
        elsewhere = {class_of[c]: counts[row, c] for c in class_of if c != column and counts[row, c]}
        table.append(
            ClassRow(
                label=label,
                images=images,
                cluster=None if column is None else clusters[column],
                recall=hit / images,
                precision=0.0 if column is None else hit / int(counts[:, column].sum()),
                confused_with=max(elsewhere, key=lambda other: elsewhere[other], default=None),
            )
        )
    return table


def label_scores(labels_true: np.ndarray, labels_pred: np.ndarray) -> dict[str, float]:
    """All scores that need labels, each under its own name: accuracy (Hungarian), purity, nmi, ari.

    Args:
        labels_true: Classes, shape (N,).
        labels_pred: Clusters, shape (N,).

    Returns:
        Scores by name, each between 0 and 1, but ARI between -0.5 and 1.

    Raises:
        DataError: the lengths differ or there are no labels.
    """
    return {
        "accuracy": clustering_accuracy_score(labels_true, labels_pred),
        "purity": majority_vote_purity_score(labels_true, labels_pred),
        "nmi": normalized_mutual_information_score(labels_true, labels_pred),
        "ari": float(adjusted_rand_score(labels_true, labels_pred)),
    }


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose most likely cluster has a probability in one interval.

    Attributes:
        low: Lower end of the interval.
        high: Upper end.
        images: Their number.
        confidence: Their mean probability; 0 where there are none.
        accuracy: Share of them that are right, under the one-to-one matching; 0 where there are none.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def calibration_bins(labels_true: np.ndarray, proba: np.ndarray, bins: int = 15) -> list[CalibrationBin]:
    """The reliability diagram of a clustering: how often images of a given confidence are right.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017); bins of equal width.

    Args:
        labels_true: Classes, shape (N,).
        proba: Probability of every cluster, shape (N, K).
        bins: Number of bins on [0, 1].

    Returns:
        The bins in ascending order, empty ones among them.

    Raises:
        DataError: the lengths differ or there are no labels.

    Example:
        >>> last = calibration_bins([0, 0, 0, 1], np.array([[0.75, 0.25]] * 4), bins=2)[-1]
        >>> last.images, last.confidence, last.accuracy
        (4, 0.75, 0.75)
    """
    right, confidence = matched_images(labels_true, proba.argmax(1)), proba.max(1).astype(np.float64)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        CalibrationBin(
            low=b / bins,
            high=(b + 1) / bins,
            images=int(inside.sum()),
            confidence=float(confidence[inside].mean()) if inside.any() else 0.0,
            accuracy=float(right[inside].mean()) if inside.any() else 0.0,
        )
        for b, inside in enumerate(bin_of == b for b in range(bins))
    ]


def expected_calibration_error(labels_true: np.ndarray, proba: np.ndarray, bins: int = 15) -> float:
    """How far the most likely cluster's probability is from how often it is right, under the one-to-one matching.

    Source and bins: see `calibration_bins`.

    Args:
        labels_true: Classes, shape (N,).
        proba: Probability of every cluster, shape (N, K).
        bins: Number of bins on [0, 1].

    Returns:
        Mean absolute difference over images, between 0 and 1; 0 is perfect.

    Raises:
        DataError: the lengths differ or there are no labels.

    Example:
        >>> expected_calibration_error([0, 0, 0, 1], np.array([[0.75, 0.25]] * 4))
        0.0
    """
    found = calibration_bins(labels_true, proba, bins)
    return float(sum(b.images * abs(b.accuracy - b.confidence) for b in found) / len(proba))


def sampled_silhouette_score(
    latents: np.ndarray, labels_pred: np.ndarray, max_images: int = 5000, seed: int = 0
) -> float | None:
    """Mean silhouette coefficient of the clusters in latent space, on a sample: its cost grows with the square.

    Args:
        latents: Shape (N, D).
        labels_pred: Clusters, shape (N,).
        max_images: Images to draw.
        seed: Of the draw.

    Returns:
        Between -1 and 1; None where fewer than two clusters, or only clusters of one image, were drawn.
    """
    rows = silhouette_sample(len(latents), max_images, seed)
    return silhouette_of(latents[rows], labels_pred[rows])


def silhouette_sample(n: int, max_images: int = 5000, seed: int = 0) -> np.ndarray:
    """Rows of the images that `sampled_silhouette_score` draws of `n`."""
    return np.random.default_rng(seed).permutation(n)[:max_images]


def silhouette_of(latents: np.ndarray, labels_pred: np.ndarray) -> float | None:
    """Mean silhouette coefficient of some images, see `sampled_silhouette_score`."""
    if not 2 <= len(np.unique(labels_pred)) < len(labels_pred):
        return None
    return float(silhouette_score(latents, labels_pred))


def _contingency(labels_true: np.ndarray, labels_pred: np.ndarray) -> np.ndarray:
    """Images per class (rows) and cluster (columns), both in ascending order."""
    if len(labels_true) != len(labels_pred):
        raise DataError(f"there are {len(labels_true)} true labels but {len(labels_pred)} predicted ones")
    if len(labels_true) == 0:
        raise DataError("there are no labels to compare")
    counts: np.ndarray = contingency_matrix(labels_true, labels_pred)
    return counts
