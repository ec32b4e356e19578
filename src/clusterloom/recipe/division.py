"""Which groups of images make up the clusters: the division of highest modularity, over all that ties groups together.

Modularity (Newman and Girvan, 2004) is the share of ties inside clusters less the share that would be there by chance.
It asks for nothing but ties: clusters may have any size and form.
"""

from collections.abc import Sequence

import numpy as np

_RESOLUTION = 0.9  # how much of what would be there by chance is taken off: with 1 a large kind is rather cut in two
_STARTS = 40
_NO_GAIN = 1e-9


def modularity_matrix(ties: Sequence[np.ndarray]) -> np.ndarray:
    """What it brings to have two groups in one cluster, for each two of them.

    Args:
        ties: Several kinds of ties between groups, symmetric, shape (G, G) each; see `ties.between_groups`.

    Returns:
        Shape (G, G), symmetric. The modularity of a division is the sum over all two groups, each with itself as well,
        that are in one cluster.
    """
    matrix = np.zeros_like(ties[0])
    for between in ties:
        of_group = between.sum(1)
        matrix += between - _RESOLUTION * np.outer(of_group, of_group) / (of_group.sum() or 1)
    return matrix


def divide(matrix: np.ndarray, n_clusters: int, generator: np.random.Generator, starts: int = _STARTS) -> np.ndarray:
    """The best of many divisions into clusters, each improved from a random start.

    Args:
        matrix: See `modularity_matrix`, shape (G, G).
        n_clusters: K, at most G; none is left empty.
        generator: Draws the starts.
        starts: How many.

    Returns:
        The cluster of each group, shape (G,).
    """
    found = []
    for _ in range(starts):
        start = np.arange(len(matrix)) % n_clusters
        found.append(_improved(matrix, generator.permutation(start), n_clusters))
    return max(found, key=lambda labels: quality(matrix, labels))


def quality(matrix: np.ndarray, labels: np.ndarray) -> float:
    """The modularity of a division of groups (G,)."""
    return float(matrix[labels[:, None] == labels].sum())


def _improved(matrix: np.ndarray, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Groups move, and where no move helps two clusters are joined and a third is cut in two, as long as that helps."""
    while True:
        labels = _climbed(matrix, labels, n_clusters)
        member_of = np.eye(n_clusters)[labels]
        gains = 2 * (member_of.T @ matrix @ member_of)
        gains[np.tri(n_clusters, dtype=bool)] = -np.inf
        best, change = _NO_GAIN, None
        for cluster in range(n_clusters):
            rows = np.flatnonzero(labels == cluster)
            if len(rows) == 1:
                continue
            part = matrix[np.ix_(rows, rows)]
            half = _half_of(part)
            others = gains.copy()
            others[cluster] = others[:, cluster] = -np.inf
            one, other = np.unravel_index(others.argmax(), others.shape)
            gain = others[one, other] - 2 * part[half][:, ~half].sum()
            if gain > best:
                best, change = gain, (one, other, rows[half])
        if change is None:
            return labels
        one, other, cut_off = change
        labels[labels == other] = one
        labels[cut_off] = other


def _climbed(matrix: np.ndarray, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Moves of one group to another cluster, the best one first, until none helps. No cluster loses its last group."""
    labels, each = labels.copy(), np.arange(len(matrix))
    ties = matrix @ np.eye(n_clusters)[labels]  # of each group to each cluster
    sizes = np.bincount(labels, minlength=n_clusters)
    while True:
        gains = ties - ties[each, labels][:, None] + matrix.diagonal()[:, None]
        gains[each, labels] = 0
        gains[sizes[labels] == 1] = 0
        group, there = np.unravel_index(gains.argmax(), gains.shape)
        if gains[group, there] <= _NO_GAIN:
            return labels
        here = labels[group]
        ties[:, here] -= matrix[:, group]
        ties[:, there] += matrix[:, group]
        sizes[here] -= 1
        sizes[there] += 1
        labels[group] = there


def _half_of(matrix: np.ndarray) -> np.ndarray:
    """Which of some groups, at least two, are on one side when they are cut in two: shape (G,), bool.

    The signs of the leading eigenvector (Newman, 2006), and moves from there.
    """
    side = np.linalg.eigh(matrix - np.diag(matrix.sum(1)))[1][:, -1] > 0
    if side.all() or not side.any():
        side = np.arange(len(matrix)) == 0
    return _climbed(matrix, side.astype(int), 2) == 1
