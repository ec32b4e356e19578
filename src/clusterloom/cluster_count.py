"""The number of clusters, from points: how well each number divides their neighbour graph.

Like the guide, it sees points and their layout alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from clusterloom.guide import fitted_mixture, modularity, sampled_graph

_SPLITS = 3
_STARTS = 6
_SPLIT_POINTS = 20_000  # both halves together
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
    """Evidence for every number of clusters from `fewest` to `most`, or as far as the points go: none for a handful.

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
    if len(points) < 2 * fewest:  # halves could not have so many clusters
        return []
    generator = np.random.default_rng(seed)
    splits = [generator.permutation(len(points))[:_SPLIT_POINTS] for _ in range(_SPLITS)]
    part, graph = sampled_graph(points, seed)
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


def _likeliest(places: np.ndarray, n_clusters: int, generator: np.random.Generator) -> GaussianMixture:
    mixtures = [fitted_mixture(places, n_clusters, start, generator) for start in range(_STARTS)]
    return max(mixtures, key=lambda mixture: mixture.lower_bound_)
