"""Clusters by density, which may be of any size: a judge of how unequal the clusters of a division should be.

HDBSCAN (Campello, Moulavi and Sander, 2013) is not told how many clusters there are, and nothing in it prefers equal
ones. It finds parts of kinds and leaves many images out, so its clusters are no pseudo-labels. But of two divisions the
one that agrees with them better has the sizes of the kinds.
"""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_mutual_info_score

_LOOKED_AT = 2000  # images, at most
_FEWEST = 100  # of fewer, density says nothing
_SMALLEST, _SMALLEST_SHARE = 5, 0.1  # images of a cluster by density: so many, or shares of the mean of K clusters
_NEIGHBOURS = 5  # whose distance is the density around an image


def agreement_with_density(
    layouts: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    groups: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
) -> Callable[[np.ndarray], float]:
    """A measure of how far a division of groups agrees with the clusters by density of all spaces.

    Args:
        layouts: Of N images in each space, shape (n, N, d); the first of each is looked at.
        weights: How much each space counts.
        groups: Of each image, from 0 to G - 1, shape (N,).
        n_clusters: K.
        generator: Draws the images that are looked at.

    Returns:
        The weighted mean over spaces of the adjusted mutual information (Vinh, Epps and Bailey, 2010), from about 0 to
        1, of clusters of groups, shape (G,), and clusters by density, among images that are in one. Those are found
        when it is first asked for. Of too few images it is always 0.
    """
    rows = generator.permutation(len(groups))[:_LOOKED_AT]

    @cache
    def by_density() -> list[tuple[float, np.ndarray, np.ndarray]]:
        smallest = max(_SMALLEST, int(_SMALLEST_SHARE * len(rows) / n_clusters))
        hdbscan = HDBSCAN(min_cluster_size=smallest, min_samples=_NEIGHBOURS, copy=True)
        found = {space: hdbscan.fit_predict(of_space[0][rows]) for space, of_space in layouts.items()}
        return [(weights[space], labels, labels >= 0) for space, labels in found.items()]

    def agreement(labels: np.ndarray) -> float:
        if len(rows) < _FEWEST:
            return 0.0
        of_rows, spaces = labels[groups[rows]], by_density()
        agreed = [adjusted_mutual_info_score(dense[some], of_rows[some]) for _, dense, some in spaces]
        return float(np.average(agreed, weights=[weight for weight, _, _ in spaces]))

    return agreement
