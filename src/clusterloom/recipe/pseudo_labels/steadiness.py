"""How far clusters are found again where ties count otherwise.

How much a space counts is an estimate. Clusters that another choice would cut or join stand on it alone.
"""

from collections.abc import Sequence

import numpy as np

from clusterloom.recipe.points.partitions import adjusted_rand_index
from clusterloom.recipe.pseudo_labels.modularity import divide, modularity_matrix

STARTS = 4  # of each division; together they are many
_DRAWS = 20
_FEW_COUNT = 0.5  # shape of the gamma distribution of how much ties count: a few kinds of ties decide each time


def other_counts(ties: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """How many times each of n kinds of ties counts in 20 draws, in each of which a few kinds decide, shape (20, n)."""
    of_kind = np.array([between.sum() for between in ties])
    counts = generator.gamma(_FEW_COUNT, size=(_DRAWS, len(ties)))
    return counts / np.maximum(counts @ of_kind, np.finfo(float).tiny)[:, None]


def counted(ties: Sequence[np.ndarray], counts: np.ndarray) -> list[np.ndarray]:
    """Each of n kinds of ties so many times, (n,)."""
    return [count * between for count, between in zip(counts, ties, strict=True)]


def steadiness(
    ties: Sequence[np.ndarray],
    counts: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    resolution: float,
    generator: np.random.Generator,
) -> float:
    """The mean adjusted Rand index of clusters with those found at the same resolution where ties count otherwise.

    Args:
        ties: See `modularity_matrix`; n kinds of them.
        counts: How many times each counts, one row for each division, shape (M, n); see `other_counts`.
        images: How many each group has, shape (G,).
        labels: The cluster of each group, shape (G,).
        resolution: At which these were found.
        generator: Draws the starts.
    """
    n_clusters, of_images = int(labels.max()) + 1, np.repeat(labels, images)
    matrices = (modularity_matrix(counted(ties, of), resolution) for of in counts)
    found = (divide(matrix, images, n_clusters, generator, STARTS) for matrix in matrices)
    return float(np.mean([adjusted_rand_index(np.repeat(other, images), of_images) for other in found]))
