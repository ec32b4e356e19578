"""Which numbers of clusters are worth a closer look: how good a quick division into each of them is.

Groups that guides keep together are divided as for the pseudo-labels, but with one layout of each space, fewer guides
and starts, and by neighbours alone.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import parallel_map
from clusterloom.recipe.cluster_count.neighbourhoods import Division, Neighbourhoods, n_neighbours
from clusterloom.recipe.cluster_count.shared_guides import SharedGuides
from clusterloom.recipe.points.neighbours import neighbour_graph
from clusterloom.recipe.pseudo_labels.confirmation import confirmations, weights_of
from clusterloom.recipe.pseudo_labels.consensus import GROUPS, groups_of
from clusterloom.recipe.pseudo_labels.modularity import divide, modularity_matrix
from clusterloom.recipe.pseudo_labels.ties import Ties, between_groups
from clusterloom.recipe.spaces.embeddings import Embeddings
from clusterloom.training.randomness import numpy_generator

FINENESS_AT_FIRST = (1.0, 1.5)  # of guides of a quick division
_DIVISIONS = 5
_LINKED = 1000  # fewer than for pseudo-labels: what counts here is the number, not each image


class FirstSight(NamedTuple):
    """What a number of clusters looks like at first sight.

    Args:
        division: A quick one.
        agreement: Of guides of that number, see `SharedGuides.agreement`; 0 where there are none.
    """

    division: Division
    agreement: float


def first_sights(
    embeddings: Embeddings,
    guides: SharedGuides,
    neighbourhoods: Neighbourhoods,
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
        neighbourhoods: Of the images in each space.
        numbers: Those in question, ascending.
        seed: Fixes everything.
        progress: Told how far it is.
    """
    layouts = {space: of_space[0] for space, of_space in embeddings.layouts.items()}
    # How far a number is confirmed spaces of one network may tell as well.
    rules = replace(embeddings.rules, learned=())
    each, near = np.arange(len(embeddings)), n_neighbours(len(embeddings))
    ties = [Ties(space, [(each, neighbour_graph(layout, near))]) for space, layout in layouts.items()]

    def divided(k: int) -> np.ndarray:
        """Clusters of a quick division into k, shape (N,)."""
        heard = guides.near(k, FINENESS_AT_FIRST)
        weights = weights_of(confirmations(heard, rules), rules)
        drawn = numpy_generator(seed, "sample", "count", epoch=k)
        groups = groups_of(heard, weights, GROUPS * k, drawn, _LINKED)
        between, images = between_groups(ties, weights, groups), np.bincount(groups)
        return divide(modularity_matrix(between), images, min(k, len(images)), drawn, _DIVISIONS)[groups]

    found_at: dict[int, FirstSight] = {}
    best: Division | None = None
    falling = numbers[::-1]
    divisions = parallel_map(divided, falling, partial(progress, "numbers of clusters"))
    for k, labels in zip(falling, divisions, strict=True):
        own = neighbourhoods.judged(labels)
        of_more = neighbourhoods.joined(best, k) if best else ()
        best = max([own, *(d for d in of_more if d.n_clusters == k)], key=lambda d: d.modularity)
        found_at[k] = FirstSight(best, guides.agreement(k))
    return found_at
