"""The number of clusters, from points: how well each number divides their neighbour graph.

Like the guide, it sees points and their layout alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import kneighbors_graph

from clusterloom.guide import fitted_mixture

_SPLITS = 3
_STARTS = 6
_SPLIT_POINTS = 20_000  # both halves together
_GRAPH_POINTS = 12_000
_NEIGHBOURS = 15
_POINTS_PER_CLUSTER = 8
_ALMOST = 0.0125


@dataclass(frozen=True)
class Evidence:
    """What speaks for a number of clusters.

    Attributes:
        n_clusters: The number, k.
        modularity: Share of neighbours that are in the same cluster, less the share that would be by chance (Newman and
            Girvan, 2004), from -1 to 1. More clusters leave less to chance, but cut more between neighbours.
        stability: Adjusted Rand index between the clusters that two halves of the images lead to; the mean of three
            divisions into halves. 1: both find the same clusters; 0: no more alike than by chance.
    """

    n_clusters: int
    modularity: float
    stability: float


def cluster_count_evidence(
    points: np.ndarray,
    places: np.ndarray,
    fewest: int,
    most: int,
    seed: int,
    report: Callable[[str], None] = lambda text: None,
) -> list[Evidence]:
    """Evidence for every number of clusters from `fewest` to `most`, or as far as the points go.

    Six mixtures are compared for each number, fitted to the halves of three samples. Stability after Lange, Roth, Braun
    and Buhmann (2004).

    Args:
        points: Shape (N, D).
        places: Their layout, as `clusterloom.guide.layout` makes it, shape (N, d).
        fewest: The smallest number, at least 2.
        most: The largest number.
        seed: Fixes everything.
        report: Told what is being done.
    """
    generator = np.random.default_rng(seed)
    splits = [generator.permutation(len(points))[:_SPLIT_POINTS] for _ in range(_SPLITS)]
    part = splits[0][:_GRAPH_POINTS]
    graph = neighbour_graph(points[part])
    evidence = []
    # Mixtures of halves need points to stand on.
    most = max(fewest, min(most, len(points) // _POINTS_PER_CLUSTER))
    for k in range(fewest, most + 1):
        modularities, stability = [], []
        for split in splits:
            halves = [_likeliest(places[half], k, generator).predict for half in np.array_split(split, 2)]
            first, second = (predict(places[split]) for predict in halves)
            stability.append(adjusted_rand_score(first, second))
            modularities += [modularity(graph, predict(places[part])) for predict in halves]
        evidence.append(Evidence(k, float(np.mean(modularities)), float(np.mean(stability))))
        report(f"{k} clusters: modularity {evidence[-1].modularity:.4f}, stability {evidence[-1].stability:.3f}")
    return evidence


def enough_modularity(evidence: Sequence[Evidence]) -> float:
    """From which modularity on a number of clusters is as good as the best: 1.25 % below the highest."""
    highest = max(e.modularity for e in evidence)
    return highest - _ALMOST * abs(highest)


def best_count(evidence: Sequence[Evidence]) -> int:
    """The smallest number that is as good as the best: more clusters would separate hardly anything."""
    enough = enough_modularity(evidence)
    return min(e.n_clusters for e in evidence if e.modularity >= enough)


def neighbour_graph(points: np.ndarray) -> csr_array:
    """Who is among the 15 nearest neighbours of whom, in either direction, shape (N, N)."""
    graph = kneighbors_graph(points, min(_NEIGHBOURS, len(points) - 1))
    return csr_array(graph.maximum(graph.T))


def modularity(graph: csr_array, labels: np.ndarray) -> float:
    """Modularity of a division of a graph: Newman and Girvan (2004), formula (5).

    Args:
        graph: Symmetric, shape (N, N).
        labels: Clusters, shape (N,).

    Example:
        >>> two_pairs = csr_array(np.kron(np.eye(2), np.array([[0, 1], [1, 0]])))
        >>> modularity(two_pairs, np.array([0, 0, 1, 1])), modularity(two_pairs, np.array([0, 0, 0, 0]))
        (0.5, 0.0)
    """
    members = np.eye(labels.max() + 1)[labels]
    between = members.T @ (graph @ members)
    shares = between / between.sum()
    return float(np.trace(shares) - (shares.sum(1) ** 2).sum())


def _likeliest(places: np.ndarray, n_clusters: int, generator: np.random.Generator) -> GaussianMixture:
    mixtures = [fitted_mixture(places, n_clusters, start, generator) for start in range(_STARTS)]
    return max(mixtures, key=lambda mixture: mixture.lower_bound_)
