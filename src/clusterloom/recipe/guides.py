"""Guides: mixtures of Gaussians in one layout of one space each, and how far the spaces confirm each other.

One guide alone is a lottery: it takes two forms of one kind for two, or two kinds for one, and which ones differs by
space, layout and start.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import side_by_side
from clusterloom.recipe.density import clusters_apart
from clusterloom.recipe.embeddings import NOTHING_KNOWN, SpaceRules
from clusterloom.recipe.mixture import fit_mixtures, kmeans_labels, mixtures_to_start_from
from clusterloom.recipe.partitions import adjusted_rand_index

FINENESS = (1.0, 1.5, 2.0)  # clusters of guides, in numbers of clusters wanted: finer ones tell where a kind has parts
_STARTS_OF = (12_000, 2, 6)  # starts of mixtures: as often as images go into so many, at least, at most
_STARTS_OF_SAMPLES = 4  # of mixtures that are fitted to a sample
FITTED_POINTS = 20_000  # that a mixture is fitted to
POINTS_PER_CLUSTER = 20  # below that covariances have nothing to stand on
_SHARPNESS = 4
_AGREE = 0.9  # adjusted Rand index of clusters of two spaces that find the same kinds
_ISLANDS, _ISLANDS_COUNT = 0.98, 3  # adjusted Rand index of guides of kinds without a bridge, and what these count
_SURE, _UNRELATED = 0.75, 0.1  # adjusted Rand index of two spaces that show the same kinds, and of others at most
_ENOUGH_APART = (0.75, 0.0)  # clusters by density, in numbers of clusters wanted, that are asked first, and then
_CONTRADICTED = 0.7  # times as far a space is confirmed where two agree on other clusters; it counts a quarter then


@dataclass(frozen=True)
class Guide:
    """One partition of the images.

    Attributes:
        space: Name of the space that it comes from.
        labels: Clusters, numbered as they come, shape (N,), int32.
        coarse: It has as many clusters as are wanted, and not more.
        apart: Clusters that lie apart in the layout of a coarse one, about as many as are wanted, shape (N,), int32;
            None where none do. See `clusterloom.recipe.density.clusters_apart`.
    """

    space: str
    labels: np.ndarray
    coarse: bool
    apart: np.ndarray | None = None


class Search(NamedTuple):
    """For guides of one number of clusters in a layout. What is random in it has been drawn.

    Args:
        space: Name of the space that is laid out.
        layout: Shape (N, d).
        part: Those of its points that mixtures are fitted to, shape (M, d).
        k: Number of clusters.
        seeds: One for each guide.
        coarse: See `Guide`.
    """

    space: str
    layout: np.ndarray
    part: np.ndarray
    k: int
    seeds: Sequence[int]
    coarse: bool

    def guides(self) -> list[Guide]:
        """What is found."""
        found = partitions_of(self.layout, self.part, self.k, self.seeds)
        apart = clusters_apart(self.layout, self.k) if self.coarse else None
        return [Guide(self.space, labels, self.coarse, apart) for labels in found]


def guides_in(
    layouts: Mapping[str, np.ndarray],
    n_clusters: int,
    generator: np.random.Generator,
    progress: ProgressReport = no_progress,
) -> list[Guide]:
    """Mixtures in all layouts, with as many clusters as are wanted and with more; of a few points by k-means.

    Args:
        layouts: Of each space by its name, shape (n, N, d).
        n_clusters: K, at most N.
        generator: Draws the starts: for each number of clusters in each layout two to six, the more the fewer points
            there are. Two guides of a few points are a lottery, as are two of a sample of many, and six cost little.
        progress: Told how far it is.
    """
    searches = [
        search
        for space, of_space in layouts.items()
        for layout in of_space
        for search in _searches(space, layout, n_clusters, generator)
    ]
    found = side_by_side(Search.guides, searches, partial(progress, "guides"))
    return [guide for guides in found for guide in guides]


def _searches(space: str, layout: np.ndarray, n_clusters: int, generator: np.random.Generator) -> Iterator[Search]:
    n = len(layout)
    many, least, most = _STARTS_OF
    starts = min(max(many // n, least), most) if n <= FITTED_POINTS else _STARTS_OF_SAMPLES
    part = layout if n <= FITTED_POINTS else layout[generator.permutation(n)[:FITTED_POINTS]]
    for fineness in FINENESS:
        k = min(round(fineness * n_clusters), max(n_clusters, n // 4))
        yield Search(space, layout, part, k, seeds_from(generator, starts), k == n_clusters)


def seeds_from(generator: np.random.Generator, n: int) -> list[int]:
    """n seeds."""
    seeds: list[int] = generator.integers(2**31, size=n).tolist()
    return seeds


def partitions_of(layout: np.ndarray, part: np.ndarray, k: int, seeds: Sequence[int]) -> list[np.ndarray]:
    """Partitions of a layout into k clusters: by mixtures, or of few points by k-means.

    Args:
        layout: Shape (N, d).
        part: Those of its points that mixtures are fitted to, shape (M, d).
        k: At most N.
        seeds: One for each partition.

    Returns:
        Clusters, shape (N,) each, int32.
    """
    if len(layout) < POINTS_PER_CLUSTER * k:
        found = [kmeans_labels(layout, k, seed) for seed in seeds]
    else:
        starts = mixtures_to_start_from(part, k, seeds)
        found = [mixture.predict(layout) for mixture in fit_mixtures(part, starts)]
    return [labels.astype(np.int32) for labels in found]


def better_confirmed(guides: Sequence[Guide], n_clusters: int, rules: SpaceRules = NOTHING_KNOWN) -> list[Guide]:
    """Guides by density in place of mixtures, in spaces that others then confirm more.

    Mixtures of as many components as there are kinds cut large kinds and join small ones, and where they do so differs
    by space. Clusters by density do not, but a few images between two kinds make one of them, so that few clusters are
    heard only where no space has enough. In one layout they are always the same, so what a space says for itself does
    not count here.

    Args:
        guides: At least two of each space.
        n_clusters: K.
        rules: See `confirmations`.
    """
    before = confirmations(guides, rules)
    for times in _ENOUGH_APART:
        enough = times * n_clusters
        dense = [
            g if g.apart is None or g.apart.max() + 1 < enough else replace(g, labels=g.apart, apart=None)
            for g in guides
        ]
        after = confirmations(dense, replace(rules, alone=()))
        better = {space for space in before if after[space] > before[space]}
        if better:
            return [other if g.space in better else g for g, other in zip(guides, dense, strict=True)]
    return list(guides)


def confirmations(guides: Sequence[Guide], rules: SpaceRules = NOTHING_KNOWN) -> dict[str, float]:
    """How far the guides of each space are confirmed by those of another: the best adjusted Rand index with one.

    Among spaces that show different things of the images, those agree in which the kinds lie apart. Spaces of one
    network agree on what it took for granted as well: for them it is the geometric mean of the best index with each
    other and of the best with any other space, if that is not higher by itself.

    Spaces that see what no other can may be confirmed by their own guides, which come from other starts and layouts.

    And where two spaces agree, those that find clusters which have nothing to do with theirs see another thing, and are
    confirmed less: of discs in six hues colours and pixels find hues, and all others sizes.

    Args:
        guides: At least two of each space.
        rules: Which spaces see what no other can, and which come from one network.
    """
    spaces = list(dict.fromkeys(guide.space for guide in guides))
    if len(spaces) == 1:
        return {spaces[0]: 1.0}
    of = {space: [g.labels for g in guides if g.space == space and g.coarse] for space in spaces}

    def mean_index(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
        return float(np.mean([adjusted_rand_index(one, other) for one, other in pairs]))

    alike = {frozenset((a, b)): mean_index(product(of[a], of[b])) for a, b in combinations(spaces, 2)}
    related: dict[str, float] = dict.fromkeys(spaces, 0.0)  # the best with a space of the same network
    others = related.copy()
    for pair, value in alike.items():
        best = related if pair <= set(rules.learned) else others
        for space in pair:
            best[space] = max(best[space], value)
    by_others = {space: max(others[space], math.sqrt(others[space] * related[space])) for space in spaces}
    agreed_on = [space for space in spaces if by_others[space] >= _SURE]

    def confirmed(space: str) -> float:
        more = [other for other in agreed_on if by_others[other] > by_others[space]]
        if any(alike[frozenset((space, other))] < _UNRELATED for other in more):
            return _CONTRADICTED * by_others[space]
        own = mean_index(combinations(of[space], 2)) if space in rules.alone else 0.0
        return max(by_others[space], own)

    return {space: confirmed(space) for space in spaces}


def agreement(found: Mapping[str, Iterable[np.ndarray]]) -> float:
    """The share of pairs of spaces that find the same clusters: whose adjusted Rand index is .9 at least, on average.

    Args:
        found: Clusters of N images, shape (N,) each, by the name of the space.

    Example:
        >>> halves, others = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        >>> agreement({"one": [halves], "two": [1 - halves]}), agreement({"one": [halves], "two": [others]})
        (1.0, 0.0)
    """
    pairs = [product(found[a], found[b]) for a, b in combinations(found, 2)]
    same = [np.mean([adjusted_rand_index(one, other) for one, other in pair]) >= _AGREE for pair in pairs]
    return float(np.mean(same)) if same else 0.0


def weights_of(
    confirmed: Mapping[str, float], rules: SpaceRules = NOTHING_KNOWN, joining: Collection[str] = ()
) -> dict[str, float]:
    """How much each space counts: the fourth power of its `confirmations`, as a share of all.

    Where guides agree almost without exception, what they find lies apart without a bridge. Such a space counts three
    times, lest several that see the same of small images, such as size, outvote it.

    Args:
        confirmed: By the name of the space.
        rules: How many spaces one is worth.
        joining: Spaces whose guides join islands: no matter how far they agree, they do not count three times.
    """

    def times(space: str, value: float) -> float:
        return _ISLANDS_COUNT if value >= _ISLANDS and space not in joining else 1

    weights = {
        space: rules.counts.get(space, 1) * times(space, value) * value**_SHARPNESS
        for space, value in confirmed.items()
    }
    total = sum(weights.values())
    return {space: weight / total if total else 1 / len(weights) for space, weight in weights.items()}
