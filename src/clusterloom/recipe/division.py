"""Which groups of images make up the clusters: the division of highest modularity, over all that ties groups together.

Modularity (Newman and Girvan, 2004) is the share of ties inside clusters less the share that would be there by chance.
It asks for nothing but ties: clusters may have any size and form.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clusterloom.recipe.ties import Ties

_RESOLUTION = 0.9  # how much of what would be there by chance is taken off: with 1 a large kind is rather cut in two
# Where spaces are doubted, divisions with a lower resolution and with less of those spaces stand for election.
_LOWER = 0.8
_DOUBTED = 0.6
_VOTED = 0.7  # resolution when they are judged
_CLEAR = 0.006  # difference in modularity that makes three quarters of a vote
_STARTS = 40
_NO_GAIN = 1e-9


@dataclass(frozen=True)
class GroupTies:
    """Ties of one sort between groups of images.

    Attributes:
        space: Name of the space that they come from.
        counts: How much they count beside others of the same space.
        shares: Of all of them those between each two groups, shape (G, G), symmetric; zeros where there are none.
    """

    space: str
    counts: float
    shares: np.ndarray

    @classmethod
    def of(cls, ties: Ties, groups: np.ndarray) -> "GroupTies":
        """Those between groups of images, given as (N,) from 0 to G - 1."""
        between = ties.between(groups)
        return cls(ties.space, ties.counts, between / max(between.sum(), np.finfo(float).tiny))

    def modularity_matrix(self, resolution: float) -> np.ndarray:
        """See the function of this name."""
        of_group = self.shares.sum(1)
        return self.shares - resolution * np.outer(of_group, of_group)


def best_division(
    ties: Sequence[GroupTies],
    weights: Mapping[str, float],
    n_groups: int,
    n_clusters: int,
    generator: np.random.Generator,
    doubted: Collection[str] = (),
) -> np.ndarray:
    """The division of highest modularity or, where spaces are doubted, the `elected` one of four such divisions.

    Args:
        ties: Of all sorts, between the same groups.
        weights: How much each space counts.
        n_groups: G.
        n_clusters: K, at most G; none is left empty.
        generator: Draws starts.
        doubted: Spaces that see clearly, and often something else than kinds. The other spaces are not to give in to
            them because they are louder.

    Returns:
        The cluster of each group, shape (G,).
    """
    choices = [(weights, _RESOLUTION)]
    if set(doubted) & set(weights):
        less = {space: weight * (_DOUBTED if space in doubted else 1) for space, weight in weights.items()}
        choices = [(w, r) for w in (weights, less) for r in (_LOWER, _RESOLUTION)]
    found = [divide(modularity_matrix(ties, w, n_groups, r), n_clusters, generator) for w, r in choices]
    return elected(found, ties, weights)


def elected(divisions: Sequence[np.ndarray], ties: Sequence[GroupTies], weights: Mapping[str, float]) -> np.ndarray:
    """The division that is preferred to others by most ties, however strongly.

    Ties of each sort vote between each two divisions with their weight, all of it as soon as one has a clearly higher
    modularity. In a sum of modularities, a single space that sees great differences outvotes all others.

    Args:
        divisions: Clusters of groups, shape (G,) each.
        ties: Of all sorts, between these groups.
        weights: How much each space counts.
    """
    votes = np.zeros(len(divisions))
    for tie in ties:
        matrix = tie.modularity_matrix(_VOTED)
        found = np.array([quality(matrix, labels) for labels in divisions])
        votes += weights[tie.space] * tie.counts * np.tanh((found[:, None] - found) / _CLEAR).sum(1)
    return divisions[int(votes.argmax())]


def modularity_matrix(
    ties: Sequence[GroupTies], weights: Mapping[str, float], n_groups: int, resolution: float = _RESOLUTION
) -> np.ndarray:
    """What it brings to have two groups in one cluster, for each two of them.

    Args:
        ties: Of all sorts, between the same groups.
        weights: How much each space counts.
        n_groups: G.
        resolution: How much of what would be there by chance is taken off.

    Returns:
        Shape (G, G), symmetric. The modularity of a division is the sum over all two groups, each with itself as well,
        that are in one cluster.
    """
    total = sum(weights[tie.space] * tie.counts for tie in ties)
    parts = (weights[tie.space] * tie.counts / total * tie.modularity_matrix(resolution) for tie in ties)
    return sum(parts, np.zeros((n_groups, n_groups)))


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
