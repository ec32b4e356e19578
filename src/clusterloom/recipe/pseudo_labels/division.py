"""Which groups of images make up the clusters: the division of highest modularity, at the resolution they ask for.

The higher the resolution, the more equal clusters are. The usual one suits kinds that differ little in size; what is
found again where ties count otherwise, and what density sees, tell whether a lower or a higher one is better.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from clusterloom.recipe.points.neighbours import within_a_cluster
from clusterloom.recipe.points.partitions import Agreement, evenness
from clusterloom.recipe.pseudo_labels.modularity import (
    NO_GAIN,
    RESOLUTION,
    STARTS,
    between_clusters,
    divide,
    modularity_matrix,
)
from clusterloom.recipe.pseudo_labels.steadiness import STARTS as FEW_STARTS
from clusterloom.recipe.pseudo_labels.steadiness import counted, other_counts, steadiness

OF_EQUAL_KINDS = 1.7  # resolution for kinds that are known to be about equally many
_TIMES = (1 / 1.5, 1.5)  # the usual resolution: what may be chosen in its place
_STEADIER = 0.05  # mean adjusted Rand index by which clusters of another resolution have to be steadier
_MOST_CHOSEN = 40  # clusters for which it is chosen; of more that would take as long as half of all else
_MORE = 4  # times as many starts at a low resolution, where fewer of them end in the best division
_SMALL = 0.25  # images of a cluster, in shares of the mean, that may be a scrap of a larger one
_LOOSE = 0.5  # share of its ties that a scrap has within, at most; a kind that is small has most of them
_LEAST_POSSIBLE = 0.5  # share of its ties that a tiny kind can have within, whose images have more neighbours
_SPARE_ONE = 5  # clusters of any size from which on one of them may be a scrap, and each fifth if they agree better
_FINER, _RESOLUTIONS = 1.5, 7  # where there are scraps each resolution is so many times the one before, up to so many
_EVEN = 0.75  # effective number of clusters of about equal size, in shares of their number
_LOW = ((0.4, _EVEN), (0.3, 0.7))  # resolutions at which clusters are of any size, and how even equal ones are there
_QUITE_EVEN = 0.85  # if clusters are so even at one of them, kinds are equal, unless some agree better
_BETTER = 0.01  # agreement of clusters of any size, by which it has to be higher where they are not unequal
_MUCH_WORSE = 0.08  # what it may be lower by, in shares of the mean entropy, where they are
_MANY = 10  # clusters from which on resolutions grow with their number
_LOW_MANY = 8  # those from which on the low one does
_LESS_STEADY = 0.05  # mean adjusted Rand index by which unequal clusters may be less steady than usual ones

Judge: TypeAlias = Callable[[np.ndarray], Agreement]  # of clusters of groups, shape (G,)


def nothing_known(labels: np.ndarray) -> Agreement:
    """The agreement of any clusters of groups (G,) with nothing."""
    return Agreement(0.0, 0.0)


def steadiest_resolution(
    ties: Sequence[np.ndarray], images: np.ndarray, n_clusters: int, generator: np.random.Generator
) -> float:
    """The usual resolution, or one 1.5 times as low or high whose clusters are found again where ties count otherwise.

    Where kinds lie side by side the usual one may cut a large kind, or join two small ones, as one space or another
    has it. Of more than 40 clusters it is not asked, which would take too long.

    Args:
        ties: See `modularity_matrix`.
        images: How many each group has, shape (G,).
        n_clusters: K, at most G.
        generator: Draws how much ties count, and the starts.

    Returns:
        What `divide_ties` is to be given.
    """
    if n_clusters > _MOST_CHOSEN:
        return RESOLUTION
    counts = other_counts(ties, generator)

    def steady_at(resolution: float) -> float:
        resolution *= _of_many(n_clusters)
        labels = divide(modularity_matrix(ties, resolution), images, n_clusters, generator)
        return steadiness(ties, counts, images, labels, resolution, generator)

    usual, others = steady_at(RESOLUTION), {RESOLUTION * times: steady_at(RESOLUTION * times) for times in _TIMES}
    best = max(others, key=others.__getitem__)
    return best if others[best] > usual + _STEADIER else RESOLUTION


def divide_ties(
    ties: Sequence[np.ndarray],
    images: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
    resolution: float = RESOLUTION,
    starts: int = STARTS,
    judge: Judge = nothing_known,
    any_size: bool = True,
    steady: bool = True,
) -> np.ndarray:
    """`divide`, at the resolution that these images ask for.

    Modularity sees no parts in what lies close together (Fortunato and Barthelemy, 2007). Where more clusters are asked
    for than it sees, it cuts off scraps, each of which would rather be joined again. A higher resolution sees parts.

    And the larger a kind is, the less it costs to cut it. At a low resolution clusters are of any size. If they are
    about equal there, kinds mostly are, and to prefer equal clusters is right; if not, it would cut large kinds and
    join small ones. Kinds of moderately unequal sizes are seen by a judge alone that does not prefer any: `judge`.

    Of K clusters of mean size chance would tie any two by 1 / K of the ties of one. So the more clusters, the less it
    matters to modularity how equal they are, unless the resolution grows with their number. The low one does so
    from eight clusters on.

    Args:
        ties: See `modularity_matrix`.
        images: How many each group has, shape (G,).
        n_clusters: K, at most G.
        generator: Draws the starts.
        resolution: What is tried first, for up to ten clusters.
        starts: How many at each resolution.
        judge: How far clusters of groups (G,) agree with what is known of such as may have any size; see
            `clusterloom.recipe.pseudo_labels.density.agreement_with_density`.
        any_size: Look for unequal clusters at a low resolution as well.
        steady: These have to be found again where ties count otherwise as the usual ones are.

    Returns:
        The cluster of each group, shape (G,).
    """
    resolution *= _of_many(n_clusters)
    matrix = modularity_matrix(ties, resolution)
    labels = divide(matrix, images, n_clusters, generator, starts)
    if any_size:
        usual = labels, resolution
        unequal = _unequal_division(ties, images, n_clusters, generator, starts, judge, usual, steady)
        if unequal is not None:
            return unequal
    for _ in range(1, _RESOLUTIONS):
        if not _scraps(ties, matrix, images, labels):
            break
        resolution *= _FINER
        matrix = modularity_matrix(ties, resolution)
        labels = divide(matrix, images, n_clusters, generator, starts)
    return labels


def other_divisions(
    ties: Sequence[np.ndarray],
    images: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
    resolution: float = RESOLUTION,
    judge: Judge = nothing_known,
    any_size: bool = True,
) -> np.ndarray:
    """What `divide_ties` finds where each kind of ties counts more or less, by chance.

    How much a space counts is an estimate. Clusters that another choice would cut or join stand on it alone.

    Args:
        ties: See `modularity_matrix`.
        images: How many each group has, shape (G,).
        n_clusters: K, at most G.
        generator: Draws how much ties count, and the starts.
        resolution: See `divide_ties`.
        judge: See `divide_ties`.
        any_size: See `divide_ties`.

    Returns:
        The cluster of each group in each of 20 divisions, shape (20, G).
    """
    others = (counted(ties, counts) for counts in other_counts(ties, generator))
    as_here = images, n_clusters, generator, resolution, FEW_STARTS, judge, any_size
    return np.stack([divide_ties(of, *as_here, steady=False) for of in others])


def _unequal_division(
    ties: Sequence[np.ndarray],
    images: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
    starts: int,
    judge: Judge,
    usual: tuple[np.ndarray, float],
    steady: bool,
) -> np.ndarray | None:
    """Clusters of any size, by a low resolution: the best of four times as many starts as show what they are like.

    They are to be far from equal and not to agree worse with what is known than the usual ones, in shares of the
    lower entropy, nor much worse in shares of the mean one, or to agree better in shares of both, however equal they
    are. None where they do not, or are scraps. Of several clusters a single scrap costs no more than itself, and some
    cost less than those gain that agree better. And a kind with fewer images than an image has neighbours is none for
    having most of its ties elsewhere. What all starts find is asked the same, for it may be something else.

    Clusters that agree better in shares of the lower entropy alone may be what a few spaces see, and are not believed
    if `steady` ones are wanted and those are found again less than usual ones are where ties count otherwise. `usual`
    is the cluster of each group, shape (G,), and the resolution of that division.
    """
    heard, found, kinds_are_equal = within_a_cluster(int(images.sum()), n_clusters), [], False
    as_usual = judge(usual[0])

    def better(agreed: Agreement) -> bool:
        return min(agreed.mean - as_usual.mean, agreed.lower - as_usual.lower) > _BETTER

    def agreement(labels: np.ndarray, matrix: np.ndarray, even: float) -> Agreement | None:
        """None of clusters that do not agree, or are scraps. `even` ones are equal."""
        sizes = np.bincount(labels, images)
        possible = np.clip((sizes - 1) / heard, _LEAST_POSSIBLE, 1)
        scraps = _scraps(ties, matrix, images, labels, possible)
        agreed = judge(labels)
        if evenness(sizes) < even and scraps <= 1:
            much_worse = agreed.mean < as_usual.mean - _MUCH_WORSE
            # The same clusters in another order agree as well but for rounding.
            agrees = agreed.lower >= as_usual.lower - NO_GAIN and not much_worse
        else:
            agrees = better(agreed)
        return agreed if agrees and scraps <= n_clusters // _SPARE_ONE else None

    draws = [generator, *generator.spawn(len(_LOW) - 1)]  # the second has its own
    for (low, even), of_resolution in zip(_LOW, draws, strict=True):
        resolution = low * _of_many(n_clusters, _LOW_MANY)
        matrix = modularity_matrix(ties, resolution)
        labels = divide(matrix, images, n_clusters, of_resolution, starts)
        kinds_are_equal |= evenness(np.bincount(labels, images)) >= _QUITE_EVEN
        even = 0.0 if kinds_are_equal else even
        agreed = agreement(labels, matrix, even)
        if agreed is not None:
            found.append((agreed.mean, resolution, matrix, even, of_resolution))
    if not found:
        return None
    _, resolution, matrix, even, of_resolution = max(found, key=lambda each: each[0])  # the first of several as good
    labels = divide(matrix, images, n_clusters, of_resolution, _MORE * starts)
    agreed = agreement(labels, matrix, even)
    if agreed is None:
        return None
    if steady and not better(agreed):
        counts, both = other_counts(ties, of_resolution), (usual, (labels, resolution))
        usually, now = (steadiness(ties, counts, images, *each, of_resolution) for each in both)
        if now < usually - _LESS_STEADY:
            return None
    return labels


def _of_many(n_clusters: int, fewest: int = _MANY) -> float:
    """How many times as high a resolution is for so many clusters as for ten; for fewer than `fewest` as for these."""
    return max(fewest, n_clusters) / _MANY


def are_uneven(sizes: np.ndarray) -> bool:
    """Whether clusters of sizes (K,) are far from equal."""
    return evenness(sizes) < _EVEN


def _scraps(
    ties: Sequence[np.ndarray],
    matrix: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    possible: float | np.ndarray = 1.0,
) -> int:
    """How many small clusters have few of the ties within that they could have, and would rather be joined.

    `possible` is the share of its ties that a cluster can have within, of all clusters or of each (K,).
    """
    n_clusters = int(labels.max()) + 1
    small = np.bincount(labels, images) < _SMALL * images.sum() / n_clusters
    between = between_clusters(np.sum(ties, axis=0), labels, n_clusters)
    loose = between.diagonal() < _LOOSE * possible * between.sum(1)
    gains = between_clusters(matrix, labels, n_clusters)
    np.fill_diagonal(gains, -np.inf)
    return int(np.sum(gains[small & loose].max(1) > NO_GAIN))
