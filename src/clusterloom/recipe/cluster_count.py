"""The number of clusters: how well the images can be divided, and how alike guides are, at each number.

Like the pseudo-labels, it sees spaces and layouts alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.recipe.consensus import GROUPS, groups_of
from clusterloom.recipe.division import divide, modularity_matrix
from clusterloom.recipe.guides import NOTHING_KNOWN, Guide, SpaceRules, confirmations, partitions_of, weights_of
from clusterloom.recipe.neighbours import modularity, neighbour_graph
from clusterloom.recipe.ties import Ties, between_groups
from clusterloom.training.randomness import numpy_generator

_POINTS = 3000
_POINTS_PER_CLUSTER = 8
_NEIGHBOURS, _IMAGES_PER_NEIGHBOUR = 15, 15  # more of few images would be of other kinds
_STARTS = 2
_FINENESS = (1.0, 1.5)
_DIVISIONS = 5
_LINKED = 1000  # fewer than for pseudo-labels: what counts here is the number, not each image
_STABILITY_COUNTS = 0.02
_COST = 0.6  # of clusters, with all neighbours; with less, kinds of signs came apart
_CLOSE = 0.005  # scores that differ by less are nearly as good
_STABLE = 0.65  # guides that agree less have found no groups that are there


@dataclass(frozen=True)
class Evidence:
    """What speaks for a number of clusters.

    Attributes:
        n_clusters: The number, k.
        modularity: Share of neighbours that are in the same cluster, less the share that would be by chance (Newman and
            Girvan, 2004), from -1 to 1, in the space whose neighbours the clusters divide best. More clusters leave
            less to chance, but cut more between neighbours.
        stability: Adjusted Rand index between the clusters that guides find in two different spaces, or in one that
            sees what no other can, where they agree most. 1: the same clusters; 0: no more alike than by chance.
        cost: What clusters cost, c. Where two of k even ones are joined, modularity falls by 2 / k^2, and c / k asks
            c / 2 of that of each further cluster.
    """

    n_clusters: int
    modularity: float
    stability: float
    cost: float = _COST

    @property
    def score(self) -> float:
        """Modularity + 0.02 stability + c / k."""
        return self.modularity + _STABILITY_COUNTS * self.stability + self.cost / self.n_clusters


def cluster_count_evidence(
    spaces: Mapping[str, np.ndarray],
    layouts: Mapping[str, np.ndarray],
    fewest: int,
    most: int,
    seed: int,
    rules: SpaceRules = NOTHING_KNOWN,
    progress: ProgressReport = no_progress,
) -> list[Evidence]:
    """Evidence for every number of clusters from `fewest` to `most`, or as far as the points go: none for a handful.

    For each number, groups that guides keep together are divided as for the pseudo-labels, but on 3,000 images, with
    one layout of each space and fewer guides, and by neighbours alone.

    Args:
        spaces: Points of each space, shape (N, D).
        layouts: Their layouts, shape (n, N, d).
        fewest: The smallest number, at least 2.
        most: The largest number.
        seed: Fixes everything.
        rules: What is known of the spaces.
        progress: Told how many numbers are done.
    """
    n = len(next(iter(spaces.values())))
    if n < 2 * fewest:
        return []
    rules = replace(rules, learned=())  # how stable a number is spaces of one network may tell as well
    generator = numpy_generator(seed, "mixtures", "count")
    rows = np.sort(generator.permutation(n)[:_POINTS])
    near = min(_NEIGHBOURS, max(1, round(len(rows) / _IMAGES_PER_NEIGHBOUR)))
    cost = _COST * math.sqrt(near / _NEIGHBOURS)
    graphs = [neighbour_graph(points[rows], near, progress) for points in spaces.values()]
    places = {space: found[0][rows] for space, found in layouts.items()}
    each = np.arange(len(rows))
    ties = [Ties(space, [(each, neighbour_graph(layout, near))]) for space, layout in places.items()]
    bound = len(rows) // _POINTS_PER_CLUSTER  # clusters need points to stand on
    most = max(fewest, min(most, bound))
    numbers = _numbers_of_guides(fewest, max(most, min(round(max(_FINENESS) * most), bound)))
    guides: dict[int, list[Guide]] = {}
    for at, k in enumerate(numbers):
        progress("guides for the number of clusters", at, len(numbers))
        guides[k] = [
            Guide(space, labels, coarse=True)
            for space, layout in places.items()
            for labels in partitions_of(layout, layout, k, _STARTS, generator)
        ]
    evidence = []
    for k in range(fewest, most + 1):
        progress("numbers of clusters", k - fewest, most + 1 - fewest)
        used = sorted({min(numbers, key=lambda number: abs(number - fineness * k)) for fineness in _FINENESS})
        heard = [Guide(g.space, g.labels, number == used[0]) for number in used for g in guides[number]]
        confirmed = confirmations(heard, rules)
        weights, drawn = weights_of(confirmed, rules), numpy_generator(seed, "sample", "count", epoch=k)
        groups = groups_of(heard, weights, GROUPS * k, drawn, _LINKED)
        matrix = modularity_matrix(between_groups(ties, weights, groups))
        labels = divide(matrix, np.bincount(groups), min(k, len(matrix)), drawn, _DIVISIONS)[groups]
        best = max(modularity(graph, labels) for graph in graphs)
        evidence.append(Evidence(k, best, max(confirmed.values()), cost))
    return evidence


def best_counts(evidence: Sequence[Evidence], n: int = 3) -> list[int]:
    """The n numbers with the highest scores, the best first."""
    return [e.n_clusters for e in sorted(evidence, key=lambda e: -e.score)[:n]]


def best_count(evidence: Sequence[Evidence]) -> int:
    """The number with the highest score."""
    return best_counts(evidence, 1)[0]


def doubt_about(evidence: Sequence[Evidence]) -> str:
    """Why the number may be another one, as half a sentence; empty where there is no reason to doubt it."""
    best, *others = sorted(evidence, key=lambda e: -e.score)
    close = [str(e.n_clusters) for e in others[:2] if e.score > best.score - _CLOSE]
    reasons = []
    if best.stability < _STABLE:
        reasons.append("the images fall into no clear groups")
    if close:
        reasons.append(f"{' or '.join(close)} would be nearly as good")
    return ", and ".join(reasons)


def advice_on(evidence: Sequence[Evidence]) -> str:
    """What a user is told: the number, the next best ones, and where it is in doubt why and how to ask for another."""
    best, *others = best_counts(evidence)
    if not others:
        return f"{best} clusters"
    next_best = " and ".join(map(str, others))
    doubt = doubt_about(evidence)
    if not doubt:
        return f"{best} clusters; next best: {next_best}"
    ask = " or ".join(f"-k {k}" for k in others)
    return f"{best} clusters, but the number is in doubt: {doubt}; next best: {next_best} (ask for one with {ask})"


def _numbers_of_guides(fewest: int, most: int) -> list[int]:
    """Each number at first, and then ever larger steps: from 2 to 11, 12, 14, 16, 18, 21, 24, 28, ..."""
    numbers = [fewest]
    while numbers[-1] < most:
        numbers.append(min(most, numbers[-1] + max(1, numbers[-1] // 6)))
    return numbers
