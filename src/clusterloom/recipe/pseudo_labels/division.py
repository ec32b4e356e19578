"""Which groups of images make up the clusters: the division of highest modularity, at the resolution they ask for.

The higher the resolution, the more equal clusters are. No resolution suits all sets of images, so several are tried.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from clusterloom.recipe.points.neighbours import within_a_cluster
from clusterloom.recipe.points.partitions import evenness
from clusterloom.recipe.pseudo_labels.modularity import (
    NO_GAIN,
    RESOLUTION,
    between_clusters,
    divide,
    modularity_matrix,
)
from clusterloom.recipe.pseudo_labels.steadiness import other_counts, other_divisions, steadiness

OF_EQUAL_KINDS = 1.7  # for kinds that are known to be about equally many
_RESOLUTIONS, _MORE_OF_MANY = (0.3, 0.6, RESOLUTION, 1.35), (2.0, 3.0)
_FEW = 10  # clusters up to which resolutions are as they stand here; of more they grow with their number
_MANY, _TOO_MANY = 20, 100  # clusters from which on more are tried, and beyond which that takes as long as all else
_AS_GOOD, _AS_GOOD_OF_MANY = 0.03, 0.01  # steadiness and agreement, by which a division may be below the best
_MUCH_WORSE = 0.1  # what agreement may be lower by than the best, in shares of the mean entropy
_FINER, _TIMES = 1.5, 5  # where there are scraps at all of them the highest is raised so many times, so often at most
_SMALL = 0.25  # images of a cluster, in shares of the mean, that may be a scrap of a larger one
_LOOSE = 0.5  # share of its ties that a scrap has within, at most; a kind that is small has most of them
_LEAST_POSSIBLE = 0.5  # share of its ties that a tiny kind can have within, whose images have more neighbours


class Agreement(NamedTuple):
    """Adjusted mutual information (Vinh, Epps and Bailey, 2010) of two partitions, from about 0 to 1.

    Args:
        lower: In shares of the lower of their entropies: 1 also where one partition is the other one cut finer.
        mean: In shares of the mean one.
    """

    lower: float
    mean: float


Judge: TypeAlias = Callable[[np.ndarray], Agreement]  # of clusters of groups, shape (G,)
Worth: TypeAlias = Callable[[np.ndarray], float]  # of clusters of groups, shape (G,), or of images, shape (N,)


class Division(NamedTuple):
    """Groups as clusters.

    Args:
        labels: The cluster of each group, shape (G,).
        others: Those at the same resolution where ties count otherwise, shape (M, G); see `other_divisions`. There are
            none where it was known what a division is worth.
    """

    labels: np.ndarray
    others: np.ndarray


def nothing_known(labels: np.ndarray) -> Agreement:
    """The agreement of any clusters of groups (G,) with nothing."""
    return Agreement(0.0, 0.0)


def divide_ties(
    ties: Sequence[np.ndarray],
    images: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
    resolution: float | None = None,
    judge: Judge = nothing_known,
    worth: Worth | None = None,
) -> Division:
    """`divide`, at the resolution that these images ask for.

    The larger a kind is, the less it costs to cut it. A high resolution cuts large kinds and joins small ones, a low
    one joins kinds that lie side by side and cuts another in their place. Either is a choice that stands on one space
    or another. So clusters count that are found again where spaces count otherwise, and that agree with what is known
    of such as may have any size: the sum of both is asked, of agreement in shares of the lower entropy. Of divisions
    about as good, by what chance makes of steadiness, the most even one counts. With next to all images in one cluster
    it is easy to be steady and to agree. But then clusters agree much worse than others in shares of the mean entropy,
    and do not count.

    Modularity sees no parts in what lies close together (Fortunato and Barthelemy, 2007). Where more clusters are asked
    for than it sees, it cuts off scraps, each of which would rather be joined again. Such divisions do not count. Where
    none is without scraps, a higher resolution sees parts.

    Of K clusters of mean size chance would tie any two by 1 / K of the ties of one. So the more clusters, the less it
    matters to modularity how equal they are, unless the resolution grows with their number. Many kinds may want more
    than that, and how steady many clusters are is better known.

    Args:
        ties: See `modularity_matrix`.
        images: How many each group has, shape (G,).
        n_clusters: K, at most G.
        generator: Draws the starts, and how much ties count.
        resolution: As it would be for up to ten clusters. None tries several, for up to 100 clusters.
        judge: How far clusters of groups (G,) agree with what is known; see
            `clusterloom.recipe.pseudo_labels.density.agreement_with_density`.
        worth: What clusters of groups (G,) are worth, where that is known: the highest counts, and no judge is asked.
    """
    counts = other_counts(ties, generator)
    of_many = max(_FEW, n_clusters) / _FEW
    resolutions = _resolutions_for(n_clusters) if resolution is None else (resolution,)

    def divided(at: float) -> tuple[np.ndarray, bool]:
        matrix = modularity_matrix(ties, at)
        labels = divide(matrix, images, n_clusters, generator)
        return labels, _has_scraps(ties, matrix, images, labels)

    def with_others(labels: np.ndarray, at: float) -> Division:
        if worth is not None:
            return Division(labels, np.empty((0, len(images)), int))
        return Division(labels, other_divisions(ties, counts, images, n_clusters, at, generator))

    whole = []
    for at in (of_many * each for each in resolutions):
        labels, scraps = divided(at)
        if not scraps:
            whole.append(with_others(labels, at))
    if whole and worth is not None:
        return max(whole, key=lambda division: worth(division.labels))
    if whole:
        return _best(whole, images, judge, _AS_GOOD if n_clusters < _MANY else _AS_GOOD_OF_MANY)
    at = of_many * max(resolutions)
    for _ in range(_TIMES):
        at *= _FINER
        labels, scraps = divided(at)
        if not scraps:
            break
    return with_others(labels, at)


def _resolutions_for(n_clusters: int) -> tuple[float, ...]:
    if n_clusters > _TOO_MANY:
        return (RESOLUTION,)
    return _RESOLUTIONS + _MORE_OF_MANY if n_clusters >= _MANY else _RESOLUTIONS


def _best(divisions: Sequence[Division], images: np.ndarray, judge: Judge, as_good: float) -> Division:
    """Of those that are steady and agree with what is known the most even one; see `divide_ties`."""
    if len(divisions) == 1:  # nothing has to be known
        return divisions[0]
    agreed = [judge(division.labels) for division in divisions]
    least = max(agreement.mean for agreement in agreed) - _MUCH_WORSE
    worth = [
        steadiness(division.labels, division.others, images) + agreement.lower if agreement.mean >= least else -np.inf
        for division, agreement in zip(divisions, agreed, strict=True)
    ]
    best = [division for division, of in zip(divisions, worth, strict=True) if of >= max(worth) - as_good]
    return max(best, key=lambda division: evenness(np.bincount(division.labels, images)))


def _has_scraps(ties: Sequence[np.ndarray], matrix: np.ndarray, images: np.ndarray, labels: np.ndarray) -> bool:
    """Whether small clusters have few of the ties within that they could have, and would rather be joined.

    An image of a tiny kind has more neighbours than its kind has others, so some of its ties must be elsewhere.
    """
    n_clusters, sizes = int(labels.max()) + 1, np.bincount(labels, images)
    small = sizes < _SMALL * sizes.mean()
    possible = np.clip((sizes - 1) / within_a_cluster(int(sizes.sum()), n_clusters), _LEAST_POSSIBLE, 1)
    between = between_clusters(np.sum(ties, axis=0), labels, n_clusters)
    loose = between.diagonal() < _LOOSE * possible * between.sum(1)
    gains = between_clusters(matrix, labels, n_clusters)
    np.fill_diagonal(gains, -np.inf)
    return bool((gains[small & loose].max(1) > NO_GAIN).any())
