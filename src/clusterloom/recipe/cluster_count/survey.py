"""Which numbers of clusters are worth a closer look: how good a quick division into each of them is.

Groups that guides keep together are divided as for the pseudo-labels, but with one layout of each space, fewer guides
and starts, and by neighbours alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import side_by_side
from clusterloom.recipe.cluster_count.shared_guides import SharedGuides
from clusterloom.recipe.points.neighbours import modularities, neighbour_graph, shares_between
from clusterloom.recipe.pseudo_labels.confirmation import confirmations, weights_of
from clusterloom.recipe.pseudo_labels.consensus import GROUPS, groups_of
from clusterloom.recipe.pseudo_labels.division import divide, modularity_matrix
from clusterloom.recipe.pseudo_labels.ties import Ties, between_groups
from clusterloom.recipe.spaces.embeddings import Embeddings
from clusterloom.training.randomness import numpy_generator

FINENESS_AT_FIRST = (1.0, 1.5)  # of guides of a quick division
_DIVISIONS = 5
_LINKED = 1000  # fewer than for pseudo-labels: what counts here is the number, not each image


class FirstSight(NamedTuple):
    """What a number of clusters looks like at first sight.

    Args:
        modularity: Of a quick division, in the space that it suits best.
        agreement: Of guides of that number, see `SharedGuides.agreement`; 0 where there are none.
        concentration: Sum of the squares of the clusters' shares in that space.
    """

    modularity: float
    agreement: float
    concentration: float


def first_sights(
    embeddings: Embeddings,
    guides: SharedGuides,
    graphs: Sequence[csr_array],
    neighbours: int,
    numbers: range,
    seed: int,
    progress: ProgressReport = no_progress,
) -> dict[int, FirstSight]:
    """What each number of clusters looks like.

    Guides of one number may all follow what has nothing to do with the kinds, such as size, so the division into the
    next larger number, clusters of it joined, is a division as well.

    Args:
        embeddings: Of N images, in one layout of each space.
        guides: Of these numbers, in the first layouts.
        graphs: Who is near whom in each space, shape (N, N).
        neighbours: How many are near a point of a layout.
        numbers: Those in question, ascending.
        seed: Fixes everything.
        progress: Told how far it is.
    """
    layouts = {space: of_space[0] for space, of_space in embeddings.layouts.items()}
    # How far a number is confirmed spaces of one network may tell as well.
    rules = replace(embeddings.rules, learned=())
    each = np.arange(len(embeddings))
    ties = [Ties(space, [(each, neighbour_graph(layout, neighbours))]) for space, layout in layouts.items()]

    def divided(k: int) -> np.ndarray:
        """Clusters of a quick division into k, shape (N,)."""
        heard = guides.near(k, FINENESS_AT_FIRST)
        weights = weights_of(confirmations(heard, rules), rules)
        drawn = numpy_generator(seed, "sample", "count", epoch=k)
        groups = groups_of(heard, weights, GROUPS * k, drawn, _LINKED)
        between, images = between_groups(ties, weights, groups), np.bincount(groups)
        return divide(modularity_matrix(between), images, min(k, len(images)), drawn, _DIVISIONS)[groups]

    found_at: dict[int, FirstSight] = {}
    shares = np.zeros((len(graphs), 0, 0))
    falling = numbers[::-1]
    divisions = side_by_side(divided, falling, partial(progress, "numbers of clusters"))
    for k, labels in zip(falling, divisions, strict=True):
        own = np.stack([shares_between(graph, labels) for graph in graphs])
        rivals = [own, *(of_fewer for of_fewer in joined(shares, k) if of_fewer.shape[1] == k)]
        shares = max(rivals, key=lambda of_space: modularities(of_space).max())
        of_spaces = modularities(shares)
        of_clusters = shares[of_spaces.argmax()].sum(1)
        found_at[k] = FirstSight(float(of_spaces.max()), guides.agreement(k), float(of_clusters @ of_clusters))
    return found_at


def joined(shares: np.ndarray, fewest: int) -> Iterator[np.ndarray]:
    """Shares (n, k, k) with two clusters joined that suit each other best, then two of these, down to the fewest."""
    while shares.shape[1] > fewest:
        shares = _two_joined(shares)
        yield shares


def _two_joined(shares: np.ndarray) -> np.ndarray:
    """Shares (n, k, k) with those two clusters joined that leave some space the highest modularity."""
    of_cluster = shares.sum(2)
    gains = 2 * (shares - of_cluster[:, :, None] * of_cluster[:, None, :])
    best = (modularities(shares)[:, None, None] + gains).max(0)
    np.fill_diagonal(best, -math.inf)
    one, other = sorted(np.unravel_index(best.argmax(), best.shape))
    joined = shares.copy()
    joined[:, one] += joined[:, other]
    joined[:, :, one] += joined[:, :, other]
    return np.delete(np.delete(joined, other, 1), other, 2)
