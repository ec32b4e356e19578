"""The division of groups of images into clusters of highest modularity.

Modularity (Newman and Girvan, 2004) is the share of ties inside clusters less the share that would be there by chance.
It asks for nothing but ties: clusters may have any form.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

RESOLUTION = 0.9  # with 1 a large kind is rather cut in two
LEAST_SHARE = 0.1  # images of a cluster, in shares of the mean: what is smaller is odd, and no kind of its own
_STARTS = 40
NO_GAIN = 1e-9


def modularity_matrix(ties: Sequence[np.ndarray], resolution: float = RESOLUTION) -> np.ndarray:
    """What it brings to have two groups in one cluster, for each two of them.

    Args:
        ties: Several kinds of ties between groups, symmetric, shape (G, G) each; see `ties.between_groups`.
        resolution: How much of what would be there by chance is taken off; the more, the more equal are clusters.

    Returns:
        Shape (G, G), symmetric. The modularity of a division is the sum over all two groups, each with itself as well,
        that are in one cluster.
    """
    matrix = np.zeros_like(ties[0])
    for between in ties:
        of_group = between.sum(1)
        matrix += between - resolution * np.outer(of_group, of_group) / (of_group.sum() or 1)
    return matrix


def quality(matrix: np.ndarray, labels: np.ndarray) -> float:
    """The modularity of a division of groups (G,)."""
    return float(matrix[labels[:, None] == labels].sum())


def between_clusters(matrix: np.ndarray, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """What each two clusters have of a matrix (G, G), shape (K, K): half of what joining them brings."""
    member_of = np.eye(n_clusters)[labels]
    between: np.ndarray = member_of.T @ matrix @ member_of
    return between


def divide(
    matrix: np.ndarray, images: np.ndarray, n_clusters: int, generator: np.random.Generator, starts: int = _STARTS
) -> np.ndarray:
    """The best of many divisions into clusters, each improved from a random start.

    Args:
        matrix: See `modularity_matrix`, shape (G, G).
        images: How many each group has, shape (G,).
        n_clusters: K, at most G. None is left empty, and none has less than a tenth of the images of a cluster of mean
            size, if groups allow for it: modularity would rather have a handful of odd images as one cluster and two
            kinds that lie side by side as another.
        generator: Draws the starts.
        starts: How many.

    Returns:
        The cluster of each group, shape (G,).
    """
    least = LEAST_SHARE * images.sum() / n_clusters

    def worth(labels: np.ndarray) -> tuple[bool, float]:
        return bool(np.bincount(labels, images).min() >= least), quality(matrix, labels)

    @cache  # most clusters are met again, from this start or another
    def cut(members: bytes) -> tuple[np.ndarray, float] | None:
        return _cut_in_two(matrix, images, np.frombuffer(members, np.intp), least)

    start = np.arange(len(matrix)) % n_clusters
    found = [_improved(matrix, images, generator.permutation(start), n_clusters, least, cut) for _ in range(starts)]
    return max(found, key=worth)


def _improved(
    matrix: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    n_clusters: int,
    least: float,
    cut: Callable[[bytes], tuple[np.ndarray, float] | None],
) -> np.ndarray:
    """Groups move, and where no move helps two clusters are joined and a third is cut in two, as long as that helps.

    `cut` is `_cut_in_two` of the groups whose numbers are given, as bytes.
    """
    while True:
        labels = _climbed(matrix, images, labels, n_clusters, least)
        gains = 2 * between_clusters(matrix, labels, n_clusters)
        gains[np.tri(n_clusters, dtype=bool)] = -np.inf
        best, change = NO_GAIN, None
        for cluster in range(n_clusters):
            halves = cut(np.flatnonzero(labels == cluster).tobytes())
            if halves is None:
                continue
            cut_off, loss = halves
            others = gains.copy()
            others[cluster] = others[:, cluster] = -np.inf
            one, other = np.unravel_index(others.argmax(), others.shape)
            gain = others[one, other] - loss
            if gain > best:
                best, change = gain, (one, other, cut_off)
        if change is None:
            return labels
        one, other, cut_off = change
        labels[labels == other] = one
        labels[cut_off] = other


def _climbed(matrix: np.ndarray, images: np.ndarray, labels: np.ndarray, n_clusters: int, least: float) -> np.ndarray:
    """Moves of one group to another cluster, the best one first, until none helps.

    None leaves a cluster with fewer images than `least`, or empty.
    """
    labels, each = labels.copy(), np.arange(len(matrix))
    ties = matrix @ np.eye(n_clusters)[labels]  # of each group to each cluster
    sizes = np.bincount(labels, images, n_clusters)
    least = max(least, images.min())
    while True:
        gains = ties - ties[each, labels][:, None] + matrix.diagonal()[:, None]
        gains[each, labels] = 0
        gains[sizes[labels] - images < least] = 0
        group, there = np.unravel_index(gains.argmax(), gains.shape)
        if gains[group, there] <= NO_GAIN:
            return labels
        here = labels[group]
        ties[:, here] -= matrix[:, group]
        ties[:, there] += matrix[:, group]
        sizes[here] -= images[group]
        sizes[there] += images[group]
        labels[group] = there


def _cut_in_two(
    matrix: np.ndarray, images: np.ndarray, groups: np.ndarray, least: float
) -> tuple[np.ndarray, float] | None:
    """Some groups (n,) as two clusters: the signs of the leading eigenvector (Newman, 2006), and moves from there.

    Returns:
        The groups of one of them and what modularity loses; None where one would have fewer images than `least`.
    """
    if len(groups) == 1:
        return None
    part = matrix[np.ix_(groups, groups)]
    side = np.linalg.eigh(part - np.diag(part.sum(1)))[1][:, -1] > 0
    if side.all() or not side.any():
        side = np.arange(len(groups)) == 0
    half = _climbed(part, images[groups], side.astype(int), 2, least) == 1
    if min(images[groups[half]].sum(), images[groups[~half]].sum()) < least:
        return None
    return groups[half], 2 * float(part[half][:, ~half].sum())
