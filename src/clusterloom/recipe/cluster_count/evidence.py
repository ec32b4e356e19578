"""What speaks for a number of clusters, what clusters cost, and which numbers rank highest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from clusterloom.recipe.cluster_count.neighbourhoods import MANY_CLUSTERS, Division

STABILITY_COUNTS = 0.05
_COST, _COST_OF = 0.7, 300  # of clusters, of so many images and more; with less, kinds of signs came apart
_OF_FEW_IMAGES = 40  # clusters are many only if they have fewer images than that
DOUBLED = 0.07  # what coverage may fall by whenever many clusters double
AGREED = 0.6  # share of pairs of spaces with the same clusters, above which these are kinds: of six one may dissent
APART = 0.995  # coverage of clusters that lie apart


class Price(NamedTuple):
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
    def of(cls, n: int) -> "Price":
        """What clusters of n images cost."""
        return cls(_COST * math.sqrt(min(1, n / _COST_OF)), max(MANY_CLUSTERS, n / _OF_FEW_IMAGES))

    def allowance(self, concentration: float) -> float:
        """What is added to the modularity of clusters, so that of all numbers the right one has the highest sum.

        Args:
            concentration: Sum of the squares of the clusters' shares, 1 / k if they are equal.

        Example:
            >>> [round(Price(0.7, 14).allowance(1 / k), 3) for k in (3, 6, 14, 28, 56)]
            [0.233, 0.117, 0.05, 0.084, 0.136]
        """
        if concentration * self.many >= 1:
            return self.cost * concentration
        return concentration - (1 - self.cost) / self.many - DOUBLED * math.log2(concentration * self.many)

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
        return self.modularity + Price(self.cost, self.many).allowance(self._concentration)

    @property
    def score(self) -> float:
        """Modularity, what its number of clusters is allowed, and 0.05 stability."""
        return self.worth + STABILITY_COUNTS * self.stability

    def record(self) -> dict[str, float]:
        """All of it, and the score, for a file."""
        return {**vars(self), "concentration": self._concentration, "score": round(self.score, 4)}

    @property
    def _concentration(self) -> float:
        return self.concentration or 1 / self.n_clusters

    @classmethod
    def from_record(cls, record: Mapping[str, float]) -> "Evidence":
        """What `record` was called on."""
        values: dict[str, Any] = {name: value for name, value in record.items() if name != "score"}
        return cls(**values)


def that_lie_apart(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Numbers at which most spaces find the same clusters and these lie apart.

    Spaces also agree on what several kinds have in common, as shoes have among garments, but that cuts neighbours.
    """
    return [e for e in evidence if e.agreement > AGREED and e.coverage > APART]


def ranked(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The best first: numbers whose clusters lie apart, and then all others, both by the score."""
    apart = that_lie_apart(evidence)
    return sorted(evidence, key=lambda e: (e in apart, e.score), reverse=True)


def best_counts(evidence: Sequence[Evidence], n: int = 3) -> list[int]:
    """The n numbers that rank highest, the best first."""
    return [e.n_clusters for e in ranked(evidence)[:n]]


def best_count(evidence: Sequence[Evidence]) -> int:
    """The number that ranks highest."""
    return best_counts(evidence, 1)[0]
