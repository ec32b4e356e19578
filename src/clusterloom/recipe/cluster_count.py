"""The number of clusters: how well each number divides an embedding's neighbour graph.

Like the pseudo-labels, it sees the embedding and its layout alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_rand_score

from clusterloom.console import ProgressReport, no_progress
from clusterloom.recipe.mixture import Mixture, fit_mixtures, mixtures_to_start_from
from clusterloom.recipe.neighbours import modularity, neighbour_graph
from clusterloom.training.randomness import numpy_generator

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
    embedding: np.ndarray,
    layout: np.ndarray,
    fewest: int,
    most: int,
    seed: int,
    tell: Callable[[str], None] = lambda text: None,
    progress: ProgressReport = no_progress,
) -> list[Evidence]:
    """Evidence for every number of clusters from `fewest` to `most`, or as far as the points go: none for a handful.

    Six mixtures are compared for each number, fitted to the halves of three samples. Stability after Lange, Roth, Braun
    and Buhmann (2004).

    Args:
        embedding: Shape (N, D).
        layout: Its `clusterloom.recipe.neighbours.layout_of`, shape (N, d).
        fewest: The smallest number, at least 2.
        most: The largest number.
        seed: Fixes everything.
        tell: Told of the evidence for each number.
        progress: Told how many numbers are done.
    """
    if len(embedding) < 2 * fewest:  # halves could not have so many clusters
        return []
    generator = numpy_generator(seed, "mixtures", "count")
    splits = [generator.permutation(len(embedding))[:_SPLIT_POINTS] for _ in range(_SPLITS)]
    part, graph = neighbour_graph(embedding, seed, progress)
    evidence = []
    # Mixtures of halves need points to stand on.
    most = max(fewest, min(most, len(embedding) // _POINTS_PER_CLUSTER))
    for k in range(fewest, most + 1):
        progress("numbers of clusters", k - fewest, most + 1 - fewest)
        modularities, stability = [], []
        for split in splits:
            halves = [_likeliest(layout[half], k, generator).predict for half in np.array_split(split, 2)]
            first, second = (predict(layout[split]) for predict in halves)
            stability.append(adjusted_rand_score(first, second))
            modularities += [modularity(graph, predict(layout[part])) for predict in halves]
        evidence.append(Evidence(k, float(np.mean(modularities)), float(np.mean(stability))))
        tell(f"{k} clusters: modularity {evidence[-1].modularity:.4f}, stability {evidence[-1].stability:.3f}")
    return evidence


def enough_modularity(evidence: Sequence[Evidence]) -> float:
    """From which modularity on a number of clusters is as good as the best: 1.25 % below the highest."""
    highest = max(e.modularity for e in evidence)
    return highest - _ALMOST * abs(highest)


def best_count(evidence: Sequence[Evidence]) -> int:
    """The smallest number that is as good as the best: more clusters would separate hardly anything."""
    enough = enough_modularity(evidence)
    return min(e.n_clusters for e in evidence if e.modularity >= enough)


def _likeliest(layout: np.ndarray, n_clusters: int, generator: np.random.Generator) -> Mixture:
    mixtures = fit_mixtures(layout, mixtures_to_start_from(layout, n_clusters, _STARTS, generator))
    return max(mixtures, key=lambda mixture: mixture.log_likelihood)
