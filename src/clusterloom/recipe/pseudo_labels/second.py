"""Stage 4, second pseudo-labels: what lies together in the layer that learned the first ones."""

import numpy as np

from clusterloom.recipe.points.mixture import Mixture, fit_mixtures, mixture_of, mixtures_to_start_from
from clusterloom.recipe.points.neighbours import mean_of_neighbours, nearest_neighbours, within_a_cluster
from clusterloom.recipe.pseudo_labels.guides import FITTED_POINTS, POINTS_PER_CLUSTER, seeds_from

_FINER = 3  # components for each cluster
_STARTS = 2
_LEARNED_COUNTS = 5  # power of the share of first pseudo-labels that were learned


def second_pseudo_labels(
    layout: np.ndarray, q: np.ndarray, first: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """What three ways to look at a layout say, each of which is wrong elsewhere.

    What the model and the first pseudo-labels say together is asked of an image's nearest neighbours, and of the other
    images in its component of mixtures with three components for each cluster. The third is the mixture of one
    component for each cluster that maximising the likelihood leads to from there: it alone may move a border for good,
    and it alone may take a group to the wrong cluster.

    A layer that has not learned the first pseudo-labels yet cannot know better. So the votes count by how many of them
    it has learned, and the first pseudo-labels by the rest; where these two together speak for another cluster than the
    votes alone, an image keeps its first pseudo-label.

    Args:
        layout: Shape (N, d).
        q: The model's soft assignments, shape (N, K).
        first: The first pseudo-labels, shape (N, K).
        generator: Draws the starts of mixtures.

    Returns:
        Soft assignments, shape (N, K), float32; clusters keep their numbers.
    """
    n, n_clusters = q.shape
    if n_clusters == 1:
        return np.ones((n, 1), np.float32)
    belief = q.astype(np.float64) * first + 1e-12
    belief /= belief.sum(1, keepdims=True)
    near = nearest_neighbours(layout, within_a_cluster(n, n_clusters))[0]
    votes = [mean_of_neighbours(belief, near)]
    part = layout[generator.permutation(n)[:FITTED_POINTS]]
    finer = _FINER * n_clusters
    if n >= POINTS_PER_CLUSTER * finer:
        starts = mixtures_to_start_from(part, finer, seeds_from(generator, _STARTS))
        votes.append(np.mean([_by_component(mixture, layout, belief) for mixture in fit_mixtures(part, starts)], 0))
    if n >= POINTS_PER_CLUSTER * n_clusters:
        votes.append(fit_mixtures(layout, [mixture_of(layout, belief)])[0].predict_proba(layout))
    voted: np.ndarray = np.mean(votes, 0)
    learned = np.mean(q.argmax(1) == first.argmax(1)) ** _LEARNED_COUNTS
    together = learned * voted + (1 - learned) * first
    kept = together.argmax(1) != voted.argmax(1)
    voted[kept] = first[kept]
    return voted.astype(np.float32)


def _by_component(mixture: Mixture, layout: np.ndarray, belief: np.ndarray) -> np.ndarray:
    """The mean belief of all images in the same component, shape (N, K)."""
    labels = mixture.predict(layout)
    sizes = np.bincount(labels, minlength=len(mixture.weights))
    sums = np.stack([np.bincount(labels, column, len(sizes)) for column in belief.T], 1)
    means: np.ndarray = (sums / np.maximum(sizes, 1)[:, None])[labels]
    return means
