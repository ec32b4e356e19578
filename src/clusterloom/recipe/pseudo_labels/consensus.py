"""What guides keep together: groups of images, smaller than clusters, and how sure an image is of its cluster.

What most guides keep together belongs together (Fred and Jain, 2005).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from clusterloom.recipe.points.neighbours import incidence
from clusterloom.recipe.points.partitions import counts_of
from clusterloom.recipe.pseudo_labels.guides import Guide

_LINKED = 2500  # images that the first groups are made of: linkage costs the square of their number
GROUPS = 6  # for each cluster
_ROUNDS = 20


def groups_of(
    guides: Sequence[Guide],
    weights: Mapping[str, float],
    n_groups: int,
    generator: np.random.Generator,
    linked: int = _LINKED,
) -> np.ndarray:
    """Groups of images that guides keep together.

    Two images are as far apart as guides put them into different clusters: the squared distance is the weighted share
    of these guides. Some images are joined to groups by Ward's linkage, and all then go to the nearest mean until they
    stay.

    Args:
        guides: At least one, of the same N images.
        weights: How much a guide of each space counts.
        n_groups: At most so many.
        generator: Draws the images that are linked.
        linked: How many these are at most.

    Returns:
        Groups from 0, shape (N,); none is empty.
    """
    some = generator.permutation(len(guides[0].labels))[:linked]
    if len(some) == 1:
        return np.zeros(1, int)
    tree = linkage(squareform(np.sqrt(_apart(guides, weights, some)), checks=False), "ward")
    first = fcluster(tree, min(n_groups, len(some)), "maxclust") - 1
    groups: np.ndarray = np.unique(_settled(guides, weights, some, first), return_inverse=True)[1]
    return groups


def shares_of(guides: Sequence[Guide], weights: Mapping[str, float], labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """How sure an image is of a cluster: its share of the images that guides put into the same place, their mean.

    Args:
        guides: Of the same N images.
        weights: How much a guide of each space counts.
        labels: Clusters, shape (N,).
        n_clusters: K.

    Returns:
        Shape (N, K), float32. Every cluster that has images is the most likely one of some.
    """
    q = np.zeros((len(labels), n_clusters))
    total = sum(weights[guide.space] for guide in guides)
    for guide in guides:
        counts = counts_of(guide.labels, labels, guide.labels.max() + 1, n_clusters)
        q += weights[guide.space] / total * (counts / np.maximum(counts.sum(1, keepdims=True), 1))[guide.labels]
    # A small cluster that most guides take for a part of another has the largest share nowhere. It was asked for. What
    # is given to it may have been all that another one had.
    while (lost := np.isin(labels, np.setdiff1d(labels, q.argmax(1)))).any():
        q[lost] = (q[lost] + np.eye(n_clusters)[labels[lost]]) / 2
    return q.astype(np.float32)


def _apart(guides: Sequence[Guide], weights: Mapping[str, float], some: np.ndarray) -> np.ndarray:
    """The weighted share of guides that put two of some images (n,) into different clusters, shape (n, n), float32."""
    total = sum(weights[guide.space] for guide in guides)
    apart = np.zeros((len(some), len(some)), np.float32)
    for space in dict.fromkeys(guide.space for guide in guides):
        differ = np.zeros(apart.shape, np.uint16)
        for labels in (guide.labels[some] for guide in guides if guide.space == space):
            narrow = labels.astype(np.min_scalar_type(int(labels.max())))  # quicker to compare
            differ += narrow[:, None] != narrow
        apart += np.float32(weights[space] / total) * differ
    return apart


def _settled(guides: Sequence[Guide], weights: Mapping[str, float], some: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Lloyd's algorithm on what guides say of each image, from the groups of some; groups of all, shape (N,)."""
    clusters = [int(guide.labels.max()) + 1 for guide in guides]
    first_columns = np.cumsum([0, *clusters[:-1]], dtype=np.int32)
    columns = np.stack([guide.labels for guide in guides], 1) + first_columns
    said = incidence(columns, sum(clusters))  # (N, clusters of all guides)
    weight_of = np.repeat([weights[guide.space] for guide in guides], clusters)
    labels, known = first, said[some]
    for _ in range(_ROUNDS):
        of_group = incidence(labels[:, None], first.max() + 1)
        means = (known.T @ of_group).toarray() / np.maximum(of_group.sum(0), 1)
        nearness = said @ (2 * weight_of[:, None] * means) - weight_of @ means**2
        moved = nearness.argmax(1)
        if len(moved) == len(labels) and np.array_equal(moved, labels):
            break
        labels, known = moved, said
    return labels
