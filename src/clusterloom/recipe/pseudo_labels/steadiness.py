"""How far clusters are found again where ties count otherwise.

How much a space counts is an estimate. Clusters that another choice would cut or join stand on it alone.
"""

from collections.abc import Sequence

import numpy as np

from clusterloom.recipe.points.partitions import adjusted_rand_index
from clusterloom.recipe.pseudo_labels.modularity import divide, modularity_matrix

_DRAWS, _STARTS = 20, 4  # other divisions, and from how many starts each; together these are many
_FEW_COUNT = 0.5  # shape of the gamma distribution of how much ties count: a few kinds of ties decide each time


def other_counts(ties: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """How many times each of n kinds of ties counts in 20 draws, in each of which a few kinds decide, shape (20, n).

    Args:
        ties: See `modularity_matrix`; what all of them sum to is kept.
        generator: Draws them from a gamma distribution.
    """
    of_kind = np.array([between.sum() for between in ties])
    counts = generator.gamma(_FEW_COUNT, size=(_DRAWS, len(ties)))
    return of_kind.sum() * counts / np.maximum(counts @ of_kind, np.finfo(float).tiny)[:, None]


def other_divisions(
    ties: Sequence[np.ndarray],
    counts: np.ndarray,
    images: np.ndarray,
    n_clusters: int,
    resolution: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """What `divide` finds where each of n kinds of ties counts so many times.

    Args:
        ties: See `modularity_matrix`.
        counts: One row for each division, shape (M, n); see `other_counts`.
        images: How many each group has, shape (G,).
        n_clusters: K, at most G.
        resolution: See `modularity_matrix`.
        generator: Draws the starts.

    Returns:
        The cluster of each group in each division, shape (M, G).
    """

    def divided(of_kind: np.ndarray) -> np.ndarray:
        counted = [count * between for count, between in zip(of_kind, ties, strict=True)]
        return divide(modularity_matrix(counted, resolution), images, n_clusters, generator, _STARTS)

    return np.stack([divided(of_kind) for of_kind in counts])


def steadiness(labels: np.ndarray, others: np.ndarray, images: np.ndarray) -> float:
    """The mean adjusted Rand index, over images, of clusters of groups (G,) and of those in other divisions (M, G)."""
    of_images = np.repeat(labels, images)
    return float(np.mean([adjusted_rand_index(np.repeat(other, images), of_images) for other in others]))
