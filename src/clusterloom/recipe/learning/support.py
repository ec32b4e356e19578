"""What first guides, ties, other divisions and sizes say of the clusters that a model has learned.

The model learns its pseudo-labels almost without exception, so it is as sure of a group of images that went to the
wrong cluster as of any other. Guides that do not find the group there again, and ties that lead elsewhere, still tell.
Where they are wrong together, sizes may tell: a large cluster often holds two kinds, and a small one a part of one.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from clusterloom.recipe.points.neighbours import mean_of_neighbours
from clusterloom.recipe.points.partitions import are_uneven, counts_of

_LEAST = 0.02  # probability in what each one says: none can rule a cluster out
_COUNTS = (2, 0.5, 2)  # of the model, the guides and the ties; guides in spaces that see no kinds vote at random
_COUNTS_OF_SIGNS = (2, 2, 2)  # the same where strokes are known: of signs guides of all spaces see something
_NEAR_COUNT = 2  # neighbours by strokes
_OTHERS_COUNT = 4  # other divisions, of a handful of images
_FEW = 200  # images of which other divisions say as much as votes in what was learned
_LARGE, _SMALL = 1, 2  # powers of how many times a cluster is as large or as small as the mean, by which odds fall
_OWN = 2  # how many times as likely as any other the model's own cluster stays


def supported(
    q: np.ndarray,
    guides: Mapping[str, np.ndarray],
    groups: np.ndarray,
    ties: np.ndarray,
    others: np.ndarray,
    of_any_size: np.ndarray,
    near: np.ndarray | None = None,
) -> np.ndarray:
    """What the model, the guides, the ties and other divisions say of each image together: their geometric mean.

    Guides count a quarter of the others, other divisions the more the fewer images there are, and images in clusters of
    odd size are doubted. Of signs, neighbours by their strokes are asked as well, and all count alike. It is to be
    learned as doubt. The model's own cluster stays the most likely one: guides cut large kinds rather than find small
    ones, and would empty small clusters.

    Args:
        q: The model's soft assignments, shape (N, K).
        guides: Clusters that guides have found, by space, numbered in any way, shape (M, N) each.
        groups: Of the images, from 0 to G - 1, shape (N,).
        ties: Strengths of the ties between groups, symmetric, shape (G, G).
        others: Shares of other divisions, see `votes`, shape (N, K); all 0 where there are none.
        of_any_size: Clusters whose size says nothing, see `odds_by_size`, bool, shape (K,).
        near: Rows of the images that are nearest to each by strokes, shape (N, n); None where strokes are not known.

    Returns:
        Soft assignments, shape (N, K).
    """
    labels, n_clusters = q.argmax(1), q.shape[1]
    said = [q, votes(labels, guides, n_clusters), belonging(labels, groups, ties, n_clusters)[groups], others]
    counts = [*(_COUNTS if near is None else _COUNTS_OF_SIGNS), _OTHERS_COUNT * trust_in_others(others)]
    if near is not None:
        said.append(mean_of_neighbours(np.eye(n_clusters)[labels], near))
        counts.append(_NEAR_COUNT)
    together = np.exp(np.average([np.log(each + _LEAST) for each in said], 0, counts))
    own = np.arange(len(q)), labels
    together[own] *= odds_by_size(labels, of_any_size)[labels]
    rest = together.copy()
    rest[own] = 0
    together[own] = np.maximum(together[own], _OWN * rest.max(1))
    return together / together.sum(1, keepdims=True)


def trust_in_others(others: np.ndarray) -> float:
    """How much other divisions count beside what was learned of N images, from 1 for a few to 0 for many.

    Args:
        others: Shares of other divisions, shape (N, K); all 0 where there are none, and then they count nothing.
    """
    return _FEW / (_FEW + len(others)) if others.any() else 0.0


def odds_by_size(labels: np.ndarray, of_any_size: np.ndarray) -> np.ndarray:
    """What is left, by the size of their cluster, of the odds that images are placed rightly.

    Sizes of a few images differ by chance: their logarithms by the inverse root of the mean size. That counts for
    nothing. And where clusters are far from equal, so are kinds, and a large cluster is one of them. What density finds
    again is a kind, or several that nothing tells apart, whatever its size.

    Args:
        labels: Clusters, shape (N,).
        of_any_size: Clusters that density finds again, see `clusterloom.recipe.pseudo_labels.density.found_again`,
            bool, shape (K,).

    Returns:
        1 for clusters of mean size and those of any size, less for smaller ones and mostly for larger ones, shape (K,).

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3])
        >>> odds_by_size(labels, np.zeros(4, bool)).round(2).tolist()
        [1.0, 0.51, 1.0, 0.9]
        >>> odds_by_size(labels, np.array([False, True, False, False])).round(2).tolist()
        [1.0, 1.0, 1.0, 0.9]
    """
    n_clusters = len(of_any_size)
    ratio = sizes_to_mean(labels, n_clusters)
    larger = np.log(np.maximum(ratio, np.finfo(float).tiny))
    odd = np.maximum(np.abs(larger) - np.sqrt(n_clusters / len(labels)), 0)
    powers = np.where(larger > 0, 0 if are_uneven(ratio) else _LARGE, _SMALL)
    odds: np.ndarray = np.where(of_any_size, 1, np.exp(-powers * odd))
    return odds


def sizes_to_mean(labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Sizes of clusters as multiples of the mean, shape (K,)."""
    sizes: np.ndarray = np.bincount(labels, minlength=n_clusters) * (n_clusters / len(labels))
    return sizes


def votes(labels: np.ndarray, guides: Mapping[str, np.ndarray], n_clusters: int) -> np.ndarray:
    """Where guides put each image, when their clusters are matched one to one to those of the model.

    Args:
        labels: The model's clusters, shape (N,).
        guides: See `supported`; at least one.
        n_clusters: K.

    Returns:
        The share of a space's guides that put an image into a cluster, the mean over spaces, shape (N, K). What a guide
        has in a cluster that is matched to none counts for nothing.

    Example:
        >>> votes(np.array([0, 0, 1, 1]), {"one": np.array([[1, 1, 0, 0], [1, 0, 0, 0]])}, 2).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]
    """
    found = np.zeros((len(labels), n_clusters))
    for of_space in guides.values():
        for guide in of_space:
            both = counts_of(guide, labels, guide.max() + 1, n_clusters)
            matched = np.zeros_like(both)
            matched[linear_sum_assignment(both, maximize=True)] = 1
            found += matched[guide] / (len(of_space) * len(guides))
    return found


def belonging(labels: np.ndarray, groups: np.ndarray, ties: np.ndarray, n_clusters: int) -> np.ndarray:
    """How strongly ties hold each group in each cluster, beside what would be there by chance.

    A group's ties within itself say nothing of where it belongs, unless it is most of its cluster: they count by the
    share of the cluster that the group is.

    Args:
        labels: The model's clusters, shape (N,).
        groups: See `supported`.
        ties: See `supported`.
        n_clusters: K.

    Returns:
        Shares, shape (G, K).
    """
    images = counts_of(groups, labels, len(ties), n_clusters)
    of_group, of_cluster = (images / np.maximum(images.sum(axis, keepdims=True), 1) for axis in (1, 0))
    within = ties.diagonal()
    held = (ties - np.diag(within)) @ of_group + within[:, None] * of_cluster
    by_chance = ties.sum(1) @ of_group
    strengths = held / np.where(by_chance > 0, by_chance, 1) + np.finfo(float).tiny  # alike where nothing ties a group
    shares: np.ndarray = strengths / strengths.sum(1, keepdims=True)
    return shares
