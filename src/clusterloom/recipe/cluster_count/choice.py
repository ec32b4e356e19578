"""The number of clusters: how well the images can be divided, and how far guides keep to that, at each number.

Like the pseudo-labels, it sees spaces and layouts alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import parallel_map
from clusterloom.recipe.cluster_count.neighbourhoods import MANY_CLUSTERS, Division, Neighbourhoods
from clusterloom.recipe.cluster_count.shared_guides import SharedGuides
from clusterloom.recipe.cluster_count.survey import FINENESS_AT_FIRST, FirstSight, first_sights
from clusterloom.recipe.pseudo_labels.division import are_uneven
from clusterloom.recipe.pseudo_labels.first import first_pseudo_labels
from clusterloom.recipe.pseudo_labels.guides import FINENESS, Guide
from clusterloom.recipe.spaces.embeddings import Embeddings
from clusterloom.training.randomness import numpy_generator

_POINTS = 2000
_POINTS_PER_CLUSTER = 8
_LOOKED_AT, _PROMISED = 8, 2  # numbers, at most: of those that look best at first, and of those that joining promises
_STABILITY_COUNTS = 0.05
_COST, _COST_OF = 0.6, 225  # of clusters, of so many images and more; with less, kinds of signs came apart
_OF_FEW_IMAGES = 40  # clusters are many only if they have fewer images than that
_DOUBLED = 0.07  # what coverage may fall by whenever many clusters double
_AT_FIRST = 29  # numbers, and larger ones as long as one of the upper half looks best
_CLOSE = 0.005  # scores that differ by less are nearly as good
_AGREED = 0.6  # share of pairs of spaces with the same clusters, above which these are kinds: of six one may dissent
_APART = 0.995  # coverage of clusters that lie apart
_STABLE = 0.65  # guides that keep less to the clusters have found no groups that are there


class _Price(NamedTuple):
    """What clusters cost.

    Where two clusters are joined modularity falls by what the concentration rises, less what was cut, and c asks a part
    of that of each further cluster. That is next to nothing where there are many, and the fewer images a kind has, the
    more of their neighbours are of another one: 26 kinds of twenty, some of which are a little alike, would be better
    as eleven. So from a number on coverage may fall by as much whenever the clusters double.

    Args:
        cost: c.
        many: That number: of clusters that have few images.
    """

    cost: float = _COST
    many: float = MANY_CLUSTERS

    @classmethod
    def of(cls, n: int) -> "_Price":
        """What clusters of n images cost."""
        return cls(_COST * math.sqrt(min(1, n / _COST_OF)), max(MANY_CLUSTERS, n / _OF_FEW_IMAGES))

    def allowance(self, concentration: float) -> float:
        """What is added to the modularity of clusters, so that of all numbers the right one has the highest sum.

        Args:
            concentration: Sum of the squares of the clusters' shares, 1 / k if they are equal.

        Example:
            >>> [round(_Price(0.6, 14).allowance(1 / k), 3) for k in (3, 6, 14, 28, 56)]
            [0.2, 0.1, 0.043, 0.077, 0.129]
        """
        if concentration * self.many >= 1:
            return self.cost * concentration
        return concentration - (1 - self.cost) / self.many - _DOUBLED * math.log2(concentration * self.many)

    def worth_at_first(self, division: Division) -> float:
        """Modularity and what is allowed: some of many clusters may be scraps, which are worth what they bring."""
        of_equal, as_they_are = 1 / division.n_clusters, division.concentration
        return division.modularity + min(self.allowance(of_equal), self.allowance(as_they_are))


@dataclass(frozen=True)
class Evidence:
    """What speaks for a number of clusters.

    Attributes:
        n_clusters: The number, k.
        modularity: Share of neighbours that are in the same cluster, less the share that would be by chance (Newman and
            Girvan, 2004), from -1 to 1, in the space whose neighbours the clusters divide best. More clusters leave
            less to chance, but cut more between neighbours.
        stability: How far guides in all spaces keep the images of a cluster together: the mean of the largest share in
            the first pseudo-labels, brought from between 1 / k and 1 to between 0 and 1.
        agreement: Share of pairs of spaces that find the same k clusters, from 0 to 1. Where kinds lie apart without a
            bridge nearly all do; parts of a kind no two spaces find alike.
        coverage: Share of neighbours that are in the same cluster, in the space that counts for modularity: 1 where
            clusters lie apart without a bridge.
        cost: What clusters cost, c.
        many: From how many clusters on coverage may fall by as much whenever they double.
        concentration: Sum of the squares of the clusters' shares where these are far from equal; 0 stands for about
            equal ones, and 1 / k is taken.
    """

    n_clusters: int
    modularity: float
    stability: float
    agreement: float = 0.0
    coverage: float = 0.0
    cost: float = _COST
    many: float = MANY_CLUSTERS
    concentration: float = 0.0

    @property
    def worth(self) -> float:
        """Modularity, and what its number of clusters is allowed."""
        return self.modularity + _Price(self.cost, self.many).allowance(self.concentration or 1 / self.n_clusters)

    @property
    def score(self) -> float:
        """Modularity, what its number of clusters is allowed, and 0.05 stability."""
        return self.worth + _STABILITY_COUNTS * self.stability

    def record(self) -> dict[str, float]:
        """All of it, and the score, for a file."""
        return {**vars(self), "score": round(self.score, 4)}

    @classmethod
    def from_record(cls, record: Mapping[str, float]) -> "Evidence":
        """What `record` was called on."""
        values: dict[str, Any] = {name: value for name, value in record.items() if name != "score"}
        return cls(**values)


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
        By ascending number, as far as the points go: none for a handful.
    """
    n = len(embeddings)
    if n < 2 * fewest:
        return []
    rows = np.sort(numpy_generator(seed, "sample", "count").permutation(n)[:_POINTS])
    some = embeddings.some(rows, n_layouts=1)
    price = _Price.of(len(rows))
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
    seen: Callable[[range], Mapping[int, FirstSight]], price: _Price, fewest: int, most: int
) -> list[int]:
    """The numbers that look best at first sight, ascending: those at which most spaces agree, and then all others."""
    worth: dict[int, tuple[bool, float]] = {}
    for numbers in _numbers(fewest, most):
        for k, sight in seen(numbers).items():
            worth[k] = sight.agreement > _AGREED, price.worth_at_first(sight.division)
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
    price: _Price,
    seed: int,
) -> _Look:
    """What first pseudo-labels of k clusters say of that number."""
    first = first_pseudo_labels(embeddings, k, seed, guides, doubted=False)
    division = neighbourhoods.judged(first.labels)
    kept_together = (float(first.q.max(1).mean()) - 1 / k) / (1 - 1 / k)
    concentration = division.concentration if are_uneven(np.bincount(first.labels)) else 0.0
    evidence = Evidence(k, division.modularity, kept_together, agreement, division.coverage, *price, concentration)
    return _Look(evidence, division)


def _promised_by_joining(
    looked: Sequence[_Look], neighbourhoods: Neighbourhoods, price: _Price, fewest: int
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


def _that_lie_apart(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Numbers at which most spaces find the same clusters and these lie apart.

    Spaces also agree on what several kinds have in common, as shoes have among garments, but that cuts neighbours.
    """
    return [e for e in evidence if e.agreement > _AGREED and e.coverage > _APART]


def _ranked(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The best first: numbers whose clusters lie apart, and then all others, both by the score."""
    apart = _that_lie_apart(evidence)
    return sorted(evidence, key=lambda e: (e in apart, e.score), reverse=True)


def best_counts(evidence: Sequence[Evidence], n: int = 3) -> list[int]:
    """The n numbers that rank highest, the best first."""
    return [e.n_clusters for e in _ranked(evidence)[:n]]


def best_count(evidence: Sequence[Evidence]) -> int:
    """The number that ranks highest."""
    return best_counts(evidence, 1)[0]


def doubt_about(evidence: Sequence[Evidence]) -> str:
    """Why the number may be another one, as half a sentence; empty where there is no reason to doubt it."""
    best, *others = _ranked(evidence)
    apart = _that_lie_apart(evidence)
    alike = [e for e in others[:2] if e in apart or not apart]
    close = [str(e.n_clusters) for e in alike if e.score > best.score - _CLOSE]
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
