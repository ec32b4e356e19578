"""Partitions of the images by many guides, and the clusters on which the guides agree.

A guide is a mixture of Gaussians in one layout of one space, with a start of its own. One guide alone is a lottery: it
takes two forms of one kind for two, or two kinds for one, and which ones differs by space, layout and start. What most
guides keep together belongs together (Fred and Jain, 2005).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, product

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from clusterloom.console import ProgressReport, no_progress
from clusterloom.recipe.mixture import fit_mixtures, kmeans_labels, mixtures_to_start_from

_FINENESS = (1.0, 1.5, 2.0)  # clusters of guides, in numbers of clusters wanted: finer ones tell where a kind has parts
_STARTS = 2
FITTED_POINTS = 20_000  # that a mixture is fitted to
POINTS_PER_CLUSTER = 20  # below that covariances have nothing to stand on
_LINKED = 2500  # images that the first clusters of a consensus are made of: linkage costs the square of their number
_GROUPS = 6  # of those for each cluster, to begin with
_SIZES_COUNT = 0.75  # between 1, which is Ward's linkage and cuts large kinds in two, and 0, which minds no size
_ROUNDS = 20


@dataclass(frozen=True)
class Guide:
    """One partition of the images.

    Attributes:
        space: Name of the space that it comes from.
        labels: Clusters, numbered as they come, shape (N,), int32.
        coarse: It has as many clusters as are wanted, and not more.
    """

    space: str
    labels: np.ndarray
    coarse: bool


@dataclass(frozen=True)
class Consensus:
    """What guides agree on.

    Attributes:
        q: Probability of every cluster for each image, shape (N, K), float32: how many guides speak for it. Clusters
            are numbered by falling size.
        weights: How much a guide of each space counts, from 0 to 1.
    """

    q: np.ndarray
    weights: dict[str, float]


def guides_of(space: str, layout: np.ndarray, n_clusters: int, generator: np.random.Generator) -> list[Guide]:
    """Mixtures in one layout, with as many clusters as are wanted and with more; of a few points by k-means.

    Args:
        space: Name of the space that is laid out.
        layout: Shape (N, d).
        n_clusters: K, at most N.
        generator: Draws the starts.
    """
    guides = []
    part = layout if len(layout) <= FITTED_POINTS else layout[generator.permutation(len(layout))[:FITTED_POINTS]]
    for fineness in _FINENESS:
        k = min(round(fineness * n_clusters), max(n_clusters, len(layout) // 4))
        found = partitions_of(layout, part, k, _STARTS, generator)
        guides += [Guide(space, labels, k == n_clusters) for labels in found]
    return guides


def partitions_of(
    layout: np.ndarray, part: np.ndarray, k: int, n: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """n partitions of a layout into k clusters: by mixtures, or of few points by k-means.

    Args:
        layout: Shape (N, d).
        part: Those of its points that mixtures are fitted to, shape (M, d).
        k: At most N.
        n: From so many starts.
        generator: Draws the starts.

    Returns:
        Clusters, shape (N,) each, int32.
    """
    if len(layout) < POINTS_PER_CLUSTER * k:
        seeds = generator.integers(2**31, size=n).tolist()
        found = [kmeans_labels(layout, k, seed) for seed in seeds]
    else:
        starts = mixtures_to_start_from(part, k, n, generator)
        found = [mixture.predict(layout) for mixture in fit_mixtures(part, starts)]
    return [labels.astype(np.int32) for labels in found]


def guides_in(
    layouts: Mapping[str, np.ndarray],
    n_clusters: int,
    generator: np.random.Generator,
    progress: ProgressReport = no_progress,
) -> list[Guide]:
    """`guides_of` all layouts, (n, N, d) by the name of their space; `progress` is told how many layouts are done."""
    all_layouts = [(space, layout) for space, of_space in layouts.items() for layout in of_space]
    guides = []
    for done, (space, layout) in enumerate(all_layouts, 1):
        guides += guides_of(space, layout, n_clusters, generator)
        progress("guides", done, len(all_layouts))
    return guides


def confirmations(guides: Sequence[Guide], by_itself: bool = False) -> dict[str, float]:
    """How far the guides of each space are confirmed by those of another: the best adjusted Rand index with one.

    Among spaces that show different things of the images, those agree in which the kinds lie apart.

    Args:
        guides: At least two of each space.
        by_itself: A space may be confirmed by its own guides, from other starts and layouts, too. They agree where
            kinds lie apart, but also where anything else does.
    """
    spaces = list(dict.fromkeys(guide.space for guide in guides))
    if len(spaces) == 1:
        return {spaces[0]: 1.0}
    of = {space: [g.labels for g in guides if g.space == space and g.coarse] for space in spaces}

    def alike(a: str, b: str) -> float:
        pairs = combinations(of[a], 2) if a == b else product(of[a], of[b])
        return float(np.mean([adjusted_rand_score(one, other) for one, other in pairs]))

    pairs = combinations_with_replacement(spaces, 2) if by_itself else combinations(spaces, 2)
    between = {pair: alike(*pair) for pair in pairs}
    return {s: max(0.0, *(alike for pair, alike in between.items() if s in pair)) for s in spaces}


def consensus(
    guides: Sequence[Guide],
    n_clusters: int,
    generator: np.random.Generator,
    linked: int = _LINKED,
    by_itself: bool = False,
) -> Consensus:
    """The clusters on which guides agree.

    Two images are as far apart as guides put them into different clusters: the squared distance is the weighted share
    of these guides. Some images are linked to the first clusters (`_linked`), and all then go to the nearest mean until
    they stay. A guide counts as much as the square of its space's `confirmations`. How sure an image is of a cluster is
    the share of that cluster among the images that the guides put into the same place as it.

    Args:
        guides: At least one, of the same N images.
        n_clusters: K, at most N.
        generator: Draws the images that are linked.
        linked: How many these are at most.
        by_itself: See `confirmations`. All spaces are then confirmed far, so guides count by the fourth power.
    """
    confirmed = confirmations(guides, by_itself)
    weights = np.array([confirmed[guide.space] ** (4 if by_itself else 2) for guide in guides])
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(guides), 1 / len(guides))
    partitions = [guide.labels for guide in guides]
    n = len(partitions[0])
    some = generator.permutation(n)[:linked]
    apart = np.zeros((len(some), len(some)), np.float32)
    for weight, labels in zip(weights, partitions, strict=True):
        apart += np.float32(weight) * (labels[some, None] != labels[some])
    first = _linked(apart, n_clusters)
    labels = _settled(partitions, weights, some, first, n_clusters)
    q = _shares(partitions, weights, labels, n_clusters)
    # A small cluster that most guides take for a part of another has the largest share nowhere. It was asked for.
    lost = np.isin(labels, np.setdiff1d(labels, q.argmax(1)))
    q[lost] = (q[lost] + np.eye(n_clusters)[labels[lost]]) / 2
    q = q[:, np.argsort(-np.bincount(q.argmax(1), minlength=n_clusters), kind="stable")]
    return Consensus(q.astype(np.float32), confirmed)


def _linked(apart: np.ndarray, n_clusters: int) -> np.ndarray:
    """Clusters of points whose squared distances (M, M) are known, shape (M,).

    Ward's linkage makes small groups. Then those two are joined, again and again, whose means lie nearest, their
    squared distance times (a b / (a + b)) ** 0.75 for sizes a and b. With the exponent 1 this is Ward's linkage to the
    end.
    """
    groups = min(_GROUPS * n_clusters, len(apart))
    labels = fcluster(linkage(squareform(np.sqrt(apart), checks=False), "ward"), groups, "maxclust") - 1
    member_of = np.eye(labels.max() + 1)[labels]
    sizes, sums = member_of.sum(0), member_of.T @ apart @ member_of
    joined = np.arange(len(sizes))  # which cluster a group is in
    alive = np.ones(len(sizes), bool)
    while alive.sum() > n_clusters:
        means = sums / np.outer(sizes, sizes)
        within = means.diagonal() / 2
        both = np.outer(sizes, sizes) / np.add.outer(sizes, sizes)
        cost = (means - within[:, None] - within) * both**_SIZES_COUNT
        cost[~(alive[:, None] & alive) | np.tri(len(sizes), dtype=bool)] = np.inf
        one, other = np.unravel_index(cost.argmin(), cost.shape)
        sums[one] += sums[other]
        sums[:, one] += sums[:, other]
        sizes[one] += sizes[other]
        joined[joined == other] = one
        alive[other] = False
    clusters: np.ndarray = np.unique(joined, return_inverse=True)[1][labels]
    return clusters


def _settled(
    partitions: Sequence[np.ndarray], weights: np.ndarray, some: np.ndarray, first: np.ndarray, n_clusters: int
) -> np.ndarray:
    """Lloyd's algorithm on what guides say of each image, from the clusters of some; clusters of all, shape (N,)."""
    labels, members = first, [partition[some] for partition in partitions]
    for _ in range(_ROUNDS):
        sizes = np.maximum(np.bincount(labels, minlength=n_clusters), 1)
        nearness = np.zeros((len(partitions[0]), n_clusters))
        for weight, partition, known in zip(weights, partitions, members, strict=True):
            means = _counts(known, labels, partition.max() + 1, n_clusters) / sizes
            nearness += weight * (2 * means[partition] - (means**2).sum(0))
        moved = nearness.argmax(1)
        if len(moved) == len(labels) and np.array_equal(moved, labels):
            break
        labels, members = moved, list(partitions)
    return labels


def _shares(partitions: Sequence[np.ndarray], weights: np.ndarray, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Of each cluster among the images that guides put where they put an image, the mean over guides, (N, K)."""
    q = np.zeros((len(labels), n_clusters))
    for weight, partition in zip(weights, partitions, strict=True):
        counts = _counts(partition, labels, partition.max() + 1, n_clusters)
        q += weight * (counts / np.maximum(counts.sum(1, keepdims=True), 1))[partition]
    return q


def _counts(of: np.ndarray, labels: np.ndarray, n_of: int, n_clusters: int) -> np.ndarray:
    """How many images are in each place of a guide and each cluster, shape (n_of, K)."""
    return np.bincount(of * n_clusters + labels, minlength=n_of * n_clusters).reshape(n_of, n_clusters).astype(float)
