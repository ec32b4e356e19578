"""Ties between images: who is near whom in a space, between which images two views of one image lie, and which images
the guides of a space keep together.

Neighbours are looked for in parts of the images, of some 400 for each cluster, so that they reach equally far in small
and large sets. Among more, the nearest ones tell nothing of how the parts of a large cluster hang together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from clusterloom.recipe.points.neighbours import incidence, nearest_neighbours, neighbour_graph, within_a_cluster
from clusterloom.recipe.pseudo_labels.guides import Guide
from clusterloom.recipe.spaces.embeddings import Embeddings

_PER_CLUSTER = 400
_PARTS = 6  # of the images, at most: time grows with the number of parts, and more would change little
_VIEWS_COUNT = 0.5  # beside neighbours of the same space
_GUIDES_COUNT = 0.25
_GUIDED = 1000  # images between which guides tie


@dataclass(frozen=True)
class Ties:
    """Ties between some of the images.

    Attributes:
        space: Name of the space that they come from.
        parts: Rows of images, shape (M,), and the strengths of the ties among them, symmetric, shape (M, M).
        counts: How much they count beside others of the same space.
    """

    space: str
    parts: Sequence[tuple[np.ndarray, csr_array]]
    counts: float = 1.0

    def between(self, groups: np.ndarray) -> np.ndarray:
        """The sum of all ties between each two groups of images, given as (N,) from 0 to G - 1; shape (G, G)."""
        of_group = np.eye(groups.max() + 1)
        return sum(of_group[groups[rows]].T @ (ties @ of_group[groups[rows]]) for rows, ties in self.parts)


def ties_of(
    embeddings: Embeddings, guides: Sequence[Guide], n_clusters: int, generator: np.random.Generator
) -> list[Ties]:
    """All ties that there are.

    Neighbours in the layouts of each space are tied, and so are images that two views of one image are near to, and
    those that coarse guides keep together. Guides cut large kinds and bridge what lies far apart, where neighbours show
    better what belongs together; but of islands without a bridge neighbours tell nothing.

    Args:
        embeddings: Of N images, at least two.
        guides: Those that tie images, of any space.
        n_clusters: K.
        generator: Draws the images among which neighbours are looked for.
    """
    n = len(embeddings)
    n_parts = min(_PARTS, max(1, round(n / (_PER_CLUSTER * n_clusters))))
    parts = np.array_split(generator.permutation(n), n_parts)
    k = min(within_a_cluster(len(parts[0]), n_clusters), len(parts[-1]) - 1)
    near = [
        Ties(space, [(rows, neighbour_graph(layout[rows], k)) for layout in of_space for rows in parts])
        for space, of_space in embeddings.layouts.items()
    ]
    seen = [
        Ties(space, [(parts[0], view_ties(embeddings.points[space][parts[0]], both, k))], _VIEWS_COUNT)
        for space, both in embeddings.view_pairs.items()
    ]
    some = parts[0][:_GUIDED]
    kept = [
        Ties(
            space,
            [(some, guide_ties([g.labels[some] for g in guides if g.space == space and g.coarse]))],
            _GUIDES_COUNT,
        )
        for space in sorted({guide.space for guide in guides})
    ]
    return near + seen + kept


def between_groups(ties: Sequence[Ties], weights: Mapping[str, float], groups: np.ndarray) -> list[np.ndarray]:
    """Ties between groups of images, of each kind as much as it counts: together 1.

    Args:
        ties: Among the images.
        weights: How much each space counts.
        groups: Of each image, from 0 to G - 1, shape (N,).

    Returns:
        Shape (G, G) each, symmetric; nothing but zeros where no images are tied.
    """
    total = sum(weights[of_kind.space] * of_kind.counts for of_kind in ties)
    found = []
    for of_kind in ties:
        between = of_kind.between(groups)
        found.append(between * (weights[of_kind.space] * of_kind.counts / total / (between.sum() or 1)))
    return found


def view_ties(points: np.ndarray, views: np.ndarray, k: int) -> csr_array:
    """How often a point is among the k nearest of one view and another among those of the other view of an image.

    Args:
        points: Shape (N, D).
        views: Two views of M images, shape (2, M, D).
        k: At most N.

    Returns:
        Shape (N, N), symmetric.
    """
    first, second = (incidence(nearest_neighbours(points, k, view)[0], len(points)) for view in views)
    ties = first.T @ second
    return csr_array(ties + ties.T)


def guide_ties(partitions: Sequence[np.ndarray]) -> csr_array:
    """How often two images are in one cluster; a cluster has as many ties as images, shared evenly.

    Args:
        partitions: Clusters of the same N images, shape (N,) each.

    Returns:
        Shape (N, N), symmetric.
    """
    shares = [np.eye(p.max() + 1)[p] / np.sqrt(np.maximum(np.bincount(p), 1)) for p in partitions]
    return csr_array(sum(of_cluster @ of_cluster.T for of_cluster in shares))
