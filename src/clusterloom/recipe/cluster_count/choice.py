"""The number of clusters: how well the images can be divided, and how far guides keep to that, at each number.

Like the pseudo-labels, it sees spaces and layouts alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import parallel_map
from clusterloom.recipe.cluster_count.evidence import AGREED, Evidence, Price
from clusterloom.recipe.cluster_count.neighbourhoods import Division, Neighbourhoods
from clusterloom.recipe.cluster_count.shared_guides import SharedGuides
from clusterloom.recipe.cluster_count.survey import FINENESS_AT_FIRST, FirstSight, first_sights
from clusterloom.recipe.points.partitions import are_uneven
from clusterloom.recipe.pseudo_labels.first import first_pseudo_labels
from clusterloom.recipe.pseudo_labels.guides import FINENESS, Guide
from clusterloom.recipe.spaces.embeddings import Embeddings
from clusterloom.training.randomness import numpy_generator

_POINTS = 2000
_POINTS_PER_CLUSTER = 8
_LOOKED_AT, _PROMISED = 8, 2  # numbers, at most: of those that look best at first, and of those that joining promises
_AT_FIRST = 29  # numbers, and larger ones as long as one of the upper half looks best


def cluster_count_evidence(
    embeddings: Embeddings,
    fewest: int,
    most: int,
    seed: int,
    progress: ProgressReport = no_progress,
) -> list[Evidence]:
    """Evidence for the numbers of clusters that look best at first sight, eight at most, and up to two more.

    The eight are numbers at which most spaces find the same clusters, and then those that divide the images best. Of
    each of them first pseudo-labels are made as for the model, but of at most 2,000 images, tied in one layout of each
    space, and of guides that some numbers share. Guides of one layout share its whims, so at the closer look those of
    another one are heard as well. Where clusters of one number, joined, promise more at a smaller one, that is looked
    at, too.

    Args:
        embeddings: Of N images.
        fewest: The smallest number, at least 2.
        most: The largest number.
        seed: Fixes everything.
        progress: Told how far it is.

    Returns:
        By ascending number, as far as the points go: none for a handful, or of images that are all equal.
    """
    n = len(embeddings)
    if n < 2 * fewest or all((points == points[0]).all() for points in embeddings.points.values()):
        return []
    rows = np.sort(numpy_generator(seed, "sample", "count").permutation(n)[:_POINTS])
    some = embeddings.some(rows, n_layouts=1)
    price = Price.of(len(rows))
    neighbourhoods = Neighbourhoods(some.points.values(), progress)
    layouts = {space: of_space[:, rows] for space, of_space in embeddings.layouts.items()}
    guides = SharedGuides(layouts, numpy_generator(seed, "mixtures", "count"))

    def seen(numbers: range) -> dict[int, FirstSight]:
        finest = round(max(FINENESS_AT_FIRST) * numbers[-1])
        guides.look_on(numbers[0], min(finest, len(rows) // 2), progress)
        return first_sights(some, guides, neighbourhoods, numbers, seed, progress)

    def look_at(k: int) -> _Look:
        return _look(k, some, guides.near(k, FINENESS), neighbourhoods, guides.agreement(k), price, seed)

    def looks(ks: list[int]) -> list[_Look]:
        # Each its own: guides of another number do not say whether spaces agree on this one.
        guides.look(0, ks, progress)
        guides.look(-1, (number for k in ks for number in guides.numbers_near(k, FINENESS)), progress)
        return parallel_map(look_at, ks, partial(progress, "a closer look at numbers"))

    # Clusters need points to stand on.
    looked = looks(_best_at_first(seen, price, fewest, max(fewest, min(most, len(rows) // _POINTS_PER_CLUSTER))))
    looked += looks(_promised_by_joining(looked, neighbourhoods, price, fewest))
    return sorted((of.evidence for of in looked), key=lambda e: e.n_clusters)


def _best_at_first(
    seen: Callable[[range], Mapping[int, FirstSight]], price: Price, fewest: int, most: int
) -> list[int]:
    """The numbers that look best at first sight, ascending: those at which most spaces agree, and then all others."""
    worth: dict[int, tuple[bool, float]] = {}
    for numbers in _numbers(fewest, most):
        for k, sight in seen(numbers).items():
            worth[k] = sight.agreement > AGREED, price.worth_at_first(sight.division)
        if max(worth, key=worth.__getitem__) <= numbers[-1] / 2:
            break  # larger ones would be worse still, and guides of them take time
    return sorted(sorted(worth, key=worth.__getitem__, reverse=True)[:_LOOKED_AT])


def _numbers(fewest: int, most: int) -> Iterator[range]:
    """Numbers of clusters that are looked at together: 29 in a row, and then twice as many in steps twice as large.

    Example:
        >>> [list(numbers)[::14] for numbers in _numbers(2, 100)]
        [[2, 16, 30], [31, 59], [61]]
    """
    end, step = fewest + _AT_FIRST - 1, 1
    while fewest <= most:
        numbers = range(fewest, min(end, most) + 1, step)
        yield numbers
        fewest, end, step = numbers[-1] + step, 2 * end, 2 * step


class _Look(NamedTuple):
    """What a closer look at a number has found.

    Args:
        evidence: For this number.
        division: Into this number of clusters.
    """

    evidence: Evidence
    division: Division


def _look(
    k: int,
    embeddings: Embeddings,
    guides: Sequence[Guide],
    neighbourhoods: Neighbourhoods,
    agreement: float,
    price: Price,
    seed: int,
) -> _Look:
    """What first pseudo-labels of k clusters say of that number: of those that its resolutions find the best."""

    def look_at(labels: np.ndarray, stability: float = 0.0) -> _Look:
        division = neighbourhoods.judged(labels)
        concentration = division.concentration if are_uneven(np.bincount(labels)) else 0.0
        found = Evidence(k, division.modularity, stability, agreement, division.coverage, *price, concentration)
        return _Look(found, division)

    first = first_pseudo_labels(embeddings, k, seed, guides, worth=lambda labels: look_at(labels).evidence.worth)
    return look_at(first.labels, (float(first.q.max(1).mean()) - 1 / k) / (1 - 1 / k))


def _promised_by_joining(
    looked: Sequence[_Look], neighbourhoods: Neighbourhoods, price: Price, fewest: int
) -> list[int]:
    """Two numbers at most that were not looked at, and would be better if clusters that were found are joined.

    Kinds that the quick division has missed may be found at a larger number, in parts.
    """
    known = {of.evidence.n_clusters for of in looked}
    to_beat = max(of.evidence.worth for of in looked)
    promised: dict[int, float] = {}
    for of in looked:
        for division in neighbourhoods.joined(of.division, fewest):
            k = division.n_clusters
            value = division.modularity + price.allowance(1 / k)
            if k not in known and value > to_beat:
                promised[k] = max(value, promised.get(k, value))
    return sorted(sorted(promised, key=promised.__getitem__, reverse=True)[:_PROMISED])
