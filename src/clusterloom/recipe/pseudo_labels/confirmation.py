"""How far spaces confirm each other by what their guides find, and so how much each of them counts."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product

import numpy as np

from clusterloom.recipe.points.partitions import adjusted_rand_index
from clusterloom.recipe.pseudo_labels.guides import Guide
from clusterloom.recipe.spaces.embeddings import NOTHING_KNOWN, SpaceRules

_SHARPNESS = 4
_AGREE = 0.9  # adjusted Rand index of clusters of two spaces that find the same kinds
_ISLANDS, _ISLANDS_COUNT = 0.98, 3  # adjusted Rand index of guides of kinds without a bridge, and what these count
_SURE, _UNRELATED = 0.75, 0.1  # adjusted Rand index of two spaces that show the same kinds, and of others at most
_FEW, _SURE_OF_FEW = 150, 0.65  # the same of fewer images, whose clusters are less alike by chance
_ENOUGH_APART = (0.75, 0.0)  # clusters by density, in numbers of clusters wanted: so many at first, then any number
_CONTRADICTED = 0.7  # times as far a space is confirmed where two agree on other clusters; it counts a quarter then


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
    if all(guide.apart is None for guide in guides):
        return list(guides)
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
    sure = _SURE if len(guides[0].labels) >= _FEW else _SURE_OF_FEW
    agreed_on = [space for space in spaces if by_others[space] >= sure]

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
