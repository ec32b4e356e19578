"""The number of clusters, from points: which numbers the data repeat, and which of those separate best.

Like the guide, it sees points and their layout alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.metrics.pairwise import cosine_distances
from sklearn.mixture import GaussianMixture

from clusterloom.guide import fitted_mixture

_SPLITS = 3
_STARTS = 6
_SPLIT_POINTS = 20_000  # both halves together
_SILHOUETTE_POINTS = 4_000
_POINTS_PER_CLUSTER = 8
_STABLE = 0.9
_ALMOST = 0.05


@dataclass(frozen=True)
class Evidence:
    """What speaks for a number of clusters.

    Attributes:
        n_clusters: The number, k.
        stability: Adjusted Rand index between the clusters that two halves of the images lead to; the mean of three
            divisions into halves. 1: both find the same clusters; 0: no more alike than by chance.
        silhouette: Mean cosine silhouette of the points, from -1 to 1: how much farther the nearest other cluster is
            than the own.
    """

    n_clusters: int
    stability: float
    silhouette: float


def cluster_count_evidence(
    points: np.ndarray,
    places: np.ndarray,
    fewest: int,
    most: int,
    seed: int,
    report: Callable[[str], None] = lambda text: None,
) -> list[Evidence]:
    """Evidence for every number of clusters from `fewest` to `most`, or as far as the points go.

    Stability after Lange, Roth, Braun and Buhmann (2004), silhouette after Rousseeuw (1987).

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
    compared = splits[0][:_SILHOUETTE_POINTS]
    distances = cosine_distances(points[compared])
    evidence = []
    # Mixtures of halves need points to stand on.
    most = max(fewest, min(most, len(points) // _POINTS_PER_CLUSTER))
    for k in range(fewest, most + 1):
        stability, silhouette = [], []
        for split in splits:
            halves = [_likeliest(places[half], k, generator).predict for half in np.array_split(split, 2)]
            first, second = (predict(places[split]) for predict in halves)
            stability.append(adjusted_rand_score(first, second))
            silhouette += [_silhouette(distances, predict(places[compared])) for predict in halves]
        evidence.append(Evidence(k, float(np.mean(stability)), float(np.mean(silhouette))))
        report(f"{k} clusters: stability {evidence[-1].stability:.3f}, silhouette {evidence[-1].silhouette:.3f}")
    return evidence


def stable_enough(evidence: Sequence[Evidence]) -> float:
    """From which stability on a number counts as stable: 0.9, or 0.05 less than the highest if that is lower."""
    return min(_STABLE, max(e.stability for e in evidence) - _ALMOST)


def best_count(evidence: Sequence[Evidence]) -> int:
    """The number whose clusters are farthest apart, by silhouette, among those that are stable."""
    enough = stable_enough(evidence)
    return max((e for e in evidence if e.stability >= enough), key=lambda e: e.silhouette).n_clusters


def _likeliest(places: np.ndarray, n_clusters: int, generator: np.random.Generator) -> GaussianMixture:
    mixtures = [fitted_mixture(places, n_clusters, start, generator) for start in range(_STARTS)]
    return max(mixtures, key=lambda mixture: mixture.lower_bound_)


def _silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    return float(silhouette_score(distances, labels, metric="precomputed")) if len(np.unique(labels)) > 1 else -1.0
