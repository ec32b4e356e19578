"""Which groups of images make up the clusters: the division of highest modularity, over all that ties groups together.

Modularity (Newman and Girvan, 2004) is the share of ties inside clusters less the share that would be there by chance.
It asks for nothing but ties: clusters may have any form, and where sizes differ much `divide_ties` sees to it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeAlias

import numpy as np

from clusterloom.recipe.points.neighbours import within_a_cluster
from clusterloom.recipe.points.partitions import Agreement, adjusted_rand_index, evenness

RESOLUTION = 0.9  # with 1 a large kind is rather cut in two
OF_EQUAL_KINDS = 1.7  # resolution for kinds that are known to be about equally many
LEAST_SHARE = 0.1  # images of a cluster, in shares of the mean: what is smaller is odd, and no kind of its own
_STARTS = 40
_MORE = 4  # times as many at a low resolution, where fewer of them end in the best division
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
_OTHERS, _STARTS_OF_OTHERS = 20, 4  # divisions where ties count otherwise, and from how many starts each
_FEW_COUNT = 0.5  # shape of the gamma distribution of how much they count: a few kinds of ties decide each time
_LESS_STEADY = 0.05  # adjusted Rand index with these others by which unequal clusters may be below usual ones
_NO_GAIN = 1e-9

Judge: TypeAlias = Callable[[np.ndarray], Agreement]  # of clusters of groups, shape (G,)


def nothing_known(labels: np.ndarray) -> Agreement:
    """The agreement of any clusters of groups (G,) with nothing."""
    return Agreement(0.0, 0.0)


def modularity_matrix(ties: Sequence[np.ndarray], resolution: float = RESOLUTION) -> np.ndarray:
    """What it brings to have two groups in one cluster, for each two of them.

    Args:
        ties: Several kinds of ties between groups, symmetric, shape (G, G) each; see `ties.between_groups`.
        resolution: How much of what would be there by chance is taken off; the more, the more equal are clusters.

    Returns:
        Shape (G, G), symmetric. The modularity of a division is the sum over all two groups, each with itself as well,
        that are in one cluster.
    """
    matrix = np.zeros_like(ties[0])
    for between in ties:
        of_group = between.sum(1)
        matrix += between - resolution * np.outer(of_group, of_group) / (of_group.sum() or 1)
    return matrix


def divide(
    matrix: np.ndarray, images: np.ndarray, n_clusters: int, generator: np.random.Generator, starts: int = _STARTS
) -> np.ndarray:
    """The best of many divisions into clusters, each improved from a random start.

    Args:
        matrix: See `modularity_matrix`, shape (G, G).
        images: How many each group has, shape (G,).
        n_clusters: K, at most G. None is left empty, and none has less than a tenth of the images of a cluster of mean
            size, if groups allow for it: modularity would rather have a handful of odd images as one cluster and two
            kinds that lie side by side as another.
        generator: Draws the starts.
        starts: How many.

    Returns:
        The cluster of each group, shape (G,).
    """
    least = LEAST_SHARE * images.sum() / n_clusters

    def worth(labels: np.ndarray) -> tuple[bool, float]:
        return bool(np.bincount(labels, images).min() >= least), quality(matrix, labels)

    @cache  # most clusters are met again, from this start or another
    def cut(members: bytes) -> tuple[np.ndarray, float] | None:
        return _cut_in_two(matrix, images, np.frombuffer(members, np.intp), least)

    start = np.arange(len(matrix)) % n_clusters
    found = [_improved(matrix, images, generator.permutation(start), n_clusters, least, cut) for _ in range(starts)]
    return max(found, key=worth)


def divide_ties(
    ties: Sequence[np.ndarray],
    images: np.ndarray,
    n_clusters: int,
    generator: np.random.Generator,
    resolution: float = RESOLUTION,
    starts: int = _STARTS,
    judge: Judge = nothing_known,
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
        steady: Unequal clusters have to be found again where ties count otherwise as the usual ones are.

    Returns:
        The cluster of each group, shape (G,).
    """
    equal_wanted = resolution > RESOLUTION
    resolution *= _of_many(n_clusters)
    matrix = modularity_matrix(ties, resolution)
    labels = divide(matrix, images, n_clusters, generator, starts)
    if not equal_wanted:
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

    Returns:
        The cluster of each group in each of 20 divisions, shape (20, G).
    """
    few = _STARTS_OF_OTHERS
    others = (_counted(ties, counts) for counts in _other_counts(ties, generator))
    return np.stack([divide_ties(of, images, n_clusters, generator, resolution, few, judge, False) for of in others])


def _other_counts(ties: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """How many times each of n kinds of ties counts in 20 draws, in each of which a few kinds decide, shape (20, n)."""
    of_kind = np.array([between.sum() for between in ties])
    counts = generator.gamma(_FEW_COUNT, size=(_OTHERS, len(ties)))
    return counts / np.maximum(counts @ of_kind, np.finfo(float).tiny)[:, None]


def _counted(ties: Sequence[np.ndarray], counts: np.ndarray) -> list[np.ndarray]:
    """Each of n kinds of ties so many times, (n,)."""
    return [count * between for count, between in zip(counts, ties, strict=True)]


def _steadiness(
    ties: Sequence[np.ndarray],
    counts: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    resolution: float,
    generator: np.random.Generator,
) -> float:
    """How far clusters of groups (G,) are found again where ties count otherwise, see `_other_counts`.

    The mean adjusted Rand index of images.
    """
    n_clusters, of_images = int(labels.max()) + 1, np.repeat(labels, images)
    matrices = (modularity_matrix(_counted(ties, of), resolution) for of in counts)
    found = (divide(matrix, images, n_clusters, generator, _STARTS_OF_OTHERS) for matrix in matrices)
    return float(np.mean([adjusted_rand_index(np.repeat(other, images), of_images) for other in found]))


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
            agrees = agreed.lower >= as_usual.lower - _NO_GAIN and not much_worse
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
        counts, both = _other_counts(ties, of_resolution), (usual, (labels, resolution))
        usually, now = (_steadiness(ties, counts, images, *each, of_resolution) for each in both)
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
    between = _between(np.sum(ties, axis=0), labels, n_clusters)
    loose = between.diagonal() < _LOOSE * possible * between.sum(1)
    gains = _between(matrix, labels, n_clusters)
    np.fill_diagonal(gains, -np.inf)
    return int(np.sum(gains[small & loose].max(1) > _NO_GAIN))


def _between(matrix: np.ndarray, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """What each two clusters have of a matrix (G, G), shape (K, K): half of what joining them brings."""
    member_of = np.eye(n_clusters)[labels]
    between: np.ndarray = member_of.T @ matrix @ member_of
    return between


def quality(matrix: np.ndarray, labels: np.ndarray) -> float:
    """The modularity of a division of groups (G,)."""
    return float(matrix[labels[:, None] == labels].sum())


def _improved(
    matrix: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    n_clusters: int,
    least: float,
    cut: Callable[[bytes], tuple[np.ndarray, float] | None],
) -> np.ndarray:
    """Groups move, and where no move helps two clusters are joined and a third is cut in two, as long as that helps.

    `cut` is `_cut_in_two` of the groups whose numbers are given, as bytes.
    """
    while True:
        labels = _climbed(matrix, images, labels, n_clusters, least)
        gains = 2 * _between(matrix, labels, n_clusters)
        gains[np.tri(n_clusters, dtype=bool)] = -np.inf
        best, change = _NO_GAIN, None
        for cluster in range(n_clusters):
            halves = cut(np.flatnonzero(labels == cluster).tobytes())
            if halves is None:
                continue
            cut_off, loss = halves
            others = gains.copy()
            others[cluster] = others[:, cluster] = -np.inf
            one, other = np.unravel_index(others.argmax(), others.shape)
            gain = others[one, other] - loss
            if gain > best:
                best, change = gain, (one, other, cut_off)
        if change is None:
            return labels
        one, other, cut_off = change
        labels[labels == other] = one
        labels[cut_off] = other


def _climbed(matrix: np.ndarray, images: np.ndarray, labels: np.ndarray, n_clusters: int, least: float) -> np.ndarray:
    """Moves of one group to another cluster, the best one first, until none helps.

    None leaves a cluster with fewer images than `least`, or empty.
    """
    labels, each = labels.copy(), np.arange(len(matrix))
    ties = matrix @ np.eye(n_clusters)[labels]  # of each group to each cluster
    sizes = np.bincount(labels, images, n_clusters)
    least = max(least, images.min())
    while True:
        gains = ties - ties[each, labels][:, None] + matrix.diagonal()[:, None]
        gains[each, labels] = 0
        gains[sizes[labels] - images < least] = 0
        group, there = np.unravel_index(gains.argmax(), gains.shape)
        if gains[group, there] <= _NO_GAIN:
            return labels
        here = labels[group]
        ties[:, here] -= matrix[:, group]
        ties[:, there] += matrix[:, group]
        sizes[here] -= images[group]
        sizes[there] += images[group]
        labels[group] = there


def _cut_in_two(
    matrix: np.ndarray, images: np.ndarray, groups: np.ndarray, least: float
) -> tuple[np.ndarray, float] | None:
    """Some groups (n,) as two clusters: the signs of the leading eigenvector (Newman, 2006), and moves from there.

    Returns:
        The groups of one of them and what modularity loses; None where one would have fewer images than `least`.
    """
    if len(groups) == 1:
        return None
    part = matrix[np.ix_(groups, groups)]
    side = np.linalg.eigh(part - np.diag(part.sum(1)))[1][:, -1] > 0
    if side.all() or not side.any():
        side = np.arange(len(groups)) == 0
    half = _climbed(part, images[groups], side.astype(int), 2, least) == 1
    if min(images[groups[half]].sum(), images[groups[~half]].sum()) < least:
        return None
    return groups[half], 2 * float(part[half][:, ~half].sum())
