"""Clusters by density, which may be of any size: guides where kinds lie apart, a judge of how unequal they are, and a
witness of clusters that are of odd size for no fault of theirs.

HDBSCAN (Campello, Moulavi and Sander, 2013) is not told how many clusters there are, and nothing in it prefers equal
ones. Where it leaves next to nothing out and finds about as many clusters as are wanted, these are better guides than
mixtures, which cut large kinds. Elsewhere it finds parts of kinds, which are no pseudo-labels. But of two divisions the
one that agrees with them better has the sizes of the kinds, and a single cluster that it finds as well lies apart.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_mutual_info_score

from clusterloom.recipe.points.neighbours import nearest_neighbours
from clusterloom.recipe.points.partitions import counts_of, effective_number, evenness
from clusterloom.recipe.pseudo_labels.division import Agreement, Judge, nothing_known

_LOOKED_AT = 2000  # images, at most
_FEWEST = 100  # of fewer, density says nothing
_FEWEST_APART = 200  # fewer are laid out by principal components, which draw nothing apart
_SMALLEST, _SMALLEST_SHARE = 5, 0.1  # images of a cluster by density: so many, or shares of the mean of K clusters
_NEIGHBOURS = 5  # whose distance is the density around an image
_WHOLE = 0.95  # share of points in a cluster, from which on kinds lie apart
_MOST = 1.5  # clusters that lie apart, in numbers of clusters wanted
_LEAST = 0.4  # effective number of them, in the same: one that has nearly all images tells no kinds apart
_AGAIN = 0.95  # Jaccard index of a cluster and one by density that are as good as the same
_EVEN, _TWO = 0.9, 1.5  # of clusters so even, one so many times the mean may be two kinds that lie apart together


def clusters_apart(layout: np.ndarray, n_clusters: int) -> np.ndarray | None:
    """Clusters by density, where nearly all points are in one, and these are neither too many nor next to one alone.

    Args:
        layout: Shape (N, d). Of very many points some are looked at, and all others go to the cluster of the nearest.
        n_clusters: K.

    Returns:
        Shape (N,), int32: the few points that are in no cluster go to that of the nearest one, too. None where kinds do
        not lie apart.
    """
    n = len(layout)
    if n < _FEWEST_APART:
        return None
    some = layout[_looked_at(n)]
    labels = _by_density(some, n_clusters)
    dense = labels >= 0
    if dense.mean() < _WHOLE or labels.max() + 1 > _MOST * n_clusters:
        return None
    if effective_number(np.bincount(labels[dense])) < _LEAST * n_clusters:
        return None
    found: np.ndarray = labels[dense][nearest_neighbours(some[dense], 1, layout)[0][:, 0]]
    return found.astype(np.int32)


def agreement_with_density(
    layouts: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    groups: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
) -> Judge:
    """A measure of how far a division of groups agrees with the clusters by density of all spaces.

    Two kinds may lie apart together, and are one cluster by density. A division that joins them as well, and cuts a
    little off another kind in their place, agrees better with it, in shares of the mean entropy of the two, though it
    knows no more. In shares of the lower entropy it does not: a partition agrees wholly with itself cut finer.

    Args:
        layouts: Of N images in each space, shape (n, N, d); the first of each is looked at.
        weights: How much each space counts.
        groups: Of each image, from 0 to G - 1, shape (N,).
        n_clusters: K.
        generator: Draws the images that are looked at.

    Returns:
        The weighted mean over spaces of the agreement of clusters of groups, shape (G,), and clusters by density, among
        images that are in one. Those are found when it is first asked for; a space without any says nothing. Of too few
        images it is always 0.
    """
    rows = generator.permutation(len(groups))[:_LOOKED_AT]

    @cache
    def by_density() -> list[tuple[float, np.ndarray, np.ndarray]]:
        found = {space: _by_density(of_space[0][rows], n_clusters) for space, of_space in layouts.items()}
        return [(weights[space], labels, labels >= 0) for space, labels in found.items() if labels.max() >= 0]

    def judge(labels: np.ndarray) -> Agreement:
        if len(rows) < _FEWEST or not by_density():
            return nothing_known(labels)
        of_rows = labels[groups[rows]]
        agreed = [
            [adjusted_mutual_info_score(dense[some], of_rows[some], average_method=of) for of in ("min", "arithmetic")]
            for _, dense, some in by_density()
        ]
        return Agreement(*np.average(agreed, 0, weights=[weight for weight, _, _ in by_density()]).tolist())

    return judge


def found_again(layouts: Mapping[str, np.ndarray], labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Which clusters density finds as well, in some space: they lie apart there, whatever their size.

    But two kinds may lie apart together. So one large cluster among about equal ones is not believed.

    Args:
        layouts: Of N images in each space, shape (n, N, d); the first of each is looked at, and of many images some.
        labels: Clusters, shape (N,).
        n_clusters: K.

    Returns:
        Shape (K,), bool; all False for fewer images than density tells apart.
    """
    again = np.zeros(n_clusters, bool)
    if len(labels) >= _FEWEST_APART:
        rows = _looked_at(len(labels))
        sizes = np.bincount(labels[rows], minlength=n_clusters)
        for of_space in layouts.values():
            dense = _by_density(of_space[0][rows], n_clusters)
            inside = dense >= 0
            both = counts_of(dense[inside], labels[rows][inside], dense.max() + 1, n_clusters)
            either = both.sum(1, keepdims=True) + sizes - both
            again |= (both >= _AGAIN * either).any(0)
        if evenness(sizes) > _EVEN:
            again &= sizes < _TWO * sizes.mean()
    return again


def _looked_at(n: int) -> np.ndarray:
    """Rows of those of n points that are looked at: all, or some at even distances."""
    return np.arange(n) if n <= _LOOKED_AT else np.arange(_LOOKED_AT) * n // _LOOKED_AT


def _by_density(points: np.ndarray, n_clusters: int) -> np.ndarray:
    """Clusters of points (N, d), shape (N,), -1 for those in none; the more are wanted, the smaller they may be."""
    smallest = max(_SMALLEST, int(_SMALLEST_SHARE * len(points) / n_clusters))
    labels: np.ndarray = HDBSCAN(min_cluster_size=smallest, min_samples=_NEIGHBOURS, copy=True).fit_predict(points)
    return labels
