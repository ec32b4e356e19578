"""How far clusters keep neighbours together, in each space, and which two of them are best joined."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from clusterloom.console import ProgressReport, no_progress
from clusterloom.recipe.points.neighbours import graph_of, modularities, nearest_neighbours, shares_between

MANY_CLUSTERS = 14  # more than so many may have few images each
# One for every so many images, but at least so many and at most so many: more of few images would be of other kinds.
_IMAGES_PER_NEIGHBOUR, _NEIGHBOURS = 60, (7, 15)
_IMAGES_PER_NEIGHBOUR_OF_FEW = 15  # at least
_PART_OF_A_CLUSTER, _LEAST_OF_MANY = 3, 5  # of many clusters a third of a mean one, but at least so many


def n_neighbours(n: int, n_clusters: int = 1) -> int:
    """How many neighbours of each of n points judge a division into so many clusters.

    Example:
        >>> [n_neighbours(n) for n in (30, 100, 300, 600, 2000)]
        [2, 7, 7, 10, 15]
        >>> [n_neighbours(1000, k) for k in (14, 28, 56, 112)]
        [15, 11, 5, 5]
    """
    least, most = _NEIGHBOURS
    near = round(min(max(n / _IMAGES_PER_NEIGHBOUR, least), most, n / _IMAGES_PER_NEIGHBOUR_OF_FEW))
    if n_clusters > MANY_CLUSTERS:
        near = min(near, max(n // (_PART_OF_A_CLUSTER * n_clusters), _LEAST_OF_MANY))
    return max(1, near)


@dataclass(frozen=True, eq=False)
class Division:
    """Clusters, and how far they keep neighbours together in the space where they do so best.

    Attributes:
        labels: Clusters of N points, shape (N,).
        shares: What each two clusters have of the edges between neighbours, in each space, from either end: symmetric,
            shape (n, k, k), a sum of 1 in each.
    """

    labels: np.ndarray
    shares: np.ndarray

    @property
    def n_clusters(self) -> int:
        """k."""
        return self.shares.shape[1]

    @property
    def modularity(self) -> float:
        """Newman and Girvan (2004), formula (5): coverage, less what it would be by chance."""
        return self.coverage - self.concentration

    @property
    def coverage(self) -> float:
        """Share of neighbours that are in the same cluster."""
        return float(self._of_best_space.trace())

    @property
    def concentration(self) -> float:
        """Sum of the squares of the clusters' shares of ends of edges: 1 / k if all are equal."""
        of_clusters = self._of_best_space.sum(1)
        return float(of_clusters @ of_clusters)

    @cached_property
    def _of_best_space(self) -> np.ndarray:
        return self.shares[modularities(self.shares).argmax()]


class Neighbourhoods:
    """Who is near whom in each space: of as many neighbours as clusters have room for.

    With as many neighbours at any number, of many clusters of few images most of these were of another one, and kinds
    of twenty images would be joined.

    Args:
        spaces: Points of each, shapes (N, D).
        progress: Told how far the search is.
    """

    def __init__(self, spaces: Iterable[np.ndarray], progress: ProgressReport = no_progress) -> None:
        self._nearest = [nearest_neighbours(p, n_neighbours(len(p)) + 1, progress=progress)[0][:, 1:] for p in spaces]
        self._graphs_of: dict[int, list[csr_array]] = {}

    def judged(self, labels: np.ndarray) -> Division:
        """How far clusters (N,) keep neighbours together."""
        graphs = self._graphs(int(labels.max()) + 1)
        return Division(labels, np.stack([shares_between(graph, labels) for graph in graphs]))

    def joined(self, division: Division, fewest: int) -> Iterator[Division]:
        """A division with those two clusters joined that leave some space the best, then two more, to the fewest."""
        while division.n_clusters > fewest:
            one, other = _suit_best(division.shares)
            labels = np.where(division.labels == other, one, division.labels)
            division = self.judged(labels - (labels > other))
            yield division

    def _graphs(self, n_clusters: int) -> list[csr_array]:
        near = n_neighbours(len(self._nearest[0]), n_clusters)
        if near not in self._graphs_of:
            self._graphs_of[near] = [graph_of(nearest[:, :near]) for nearest in self._nearest]
        return self._graphs_of[near]


def _suit_best(shares: np.ndarray) -> tuple[int, int]:
    """Those two clusters, ascending, that leave some space the highest modularity if they are joined."""
    of_cluster = shares.sum(2)
    gains = 2 * (shares - of_cluster[:, :, None] * of_cluster[:, None, :])
    best = (modularities(shares)[:, None, None] + gains).max(0)
    np.fill_diagonal(best, -math.inf)
    one, other = sorted(np.unravel_index(best.argmax(), best.shape))
    return int(one), int(other)
