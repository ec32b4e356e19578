"""Stage 2, pseudo-labels: clusters of an embedding, by Gaussian mixtures in its layout.

It sees embeddings alone, never images or labels, and knows no network.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.metrics import mutual_info_score

from clusterloom.console import ProgressReport, no_progress
from clusterloom.recipe.mixture import Mixture, fit_mixtures, mixture_of, mixtures_to_start_from
from clusterloom.recipe.neighbours import FEWEST_FOR_LAYOUT, nearest_neighbours
from clusterloom.training.randomness import numpy_generator

_STARTS = 24
_START_POINTS = 20_000  # points that a start is tried on
_FINALISTS = 12  # most likely starts that are carried on with all points
_VOTERS = 15  # nearest points of a view, whose most frequent cluster is the view's
_ALMOST_NATS = 0.1  # a mixture less likely by no more than that may be taken for what its clusters tell of views
_SAME_NATS = 1e-3  # starts whose log-likelihoods differ by less have found the same mixture


@dataclass(frozen=True)
class PseudoLabels:
    """Soft assignments that a model can learn from.

    Attributes:
        q: Probability of every cluster for each point, shape (N, K), float32.
        finalists: For each mixture that was compared, its log-likelihood in the layout and the nats that two views
            share in it, the kept one first.
        partitions: The clusters that each of those mixtures finds, numbered as they come, shape (finalists, N), int32.
    """

    q: np.ndarray
    finalists: tuple[tuple[float, float], ...]
    partitions: np.ndarray


def first_pseudo_labels(
    embedding: np.ndarray,
    layout: np.ndarray,
    n_clusters: int,
    seed: int,
    views: tuple[np.ndarray, np.ndarray],
    progress: ProgressReport = no_progress,
) -> PseudoLabels:
    """Cluster an embedding by the density of its layout: a mixture of Gaussians with full covariances, of many starts.

    The best mixtures can be almost equally likely in the layout, which has lost the embedding's distances. So of those
    within 0.1 nats of the most likely one that one is kept whose clusters say most of an image whichever view of it is
    seen: a view belongs to the cluster of most of its 15 nearest points, and the mutual information of the clusters of
    an image's two views is to be the highest. It asks for clusters that are alike in both views, and for many of them;
    Ji, Henriques and Vedaldi (2019) train networks on it.

    Args:
        embedding: Shape (N, D).
        layout: Its `clusterloom.recipe.neighbours.layout_of`, shape (N, d).
        n_clusters: K, at most N.
        seed: Fixes everything; the same seed gives the same pseudo-labels.
        views: The embedding of two views of each of some images, shape (M, D) each.
        progress: Told how many mixtures are fitted.

    Returns:
        The pseudo-labels; clusters are numbered by falling size.
    """
    if n_clusters == 1:
        return PseudoLabels(_one_cluster(len(embedding)), ((0.0, 0.0),), np.zeros((1, len(embedding)), np.int32))
    candidates = _likely_mixtures(layout, n_clusters, numpy_generator(seed, "mixtures"), progress)
    k = min(_VOTERS, len(embedding))
    voters = [nearest_neighbours(embedding, k, view, progress)[0] for view in views]
    likely = np.array([mixture.log_likelihood for mixture in candidates])
    partitions = np.stack([mixture.predict(layout) for mixture in candidates]).astype(np.int32)
    of_views = [[_majority(labels[rows], n_clusters) for rows in voters] for labels in partitions]
    shared = np.array([mutual_info_score(*clusters) for clusters in of_views])
    # Full covariances fit a handful of points so well that their likelihood tells nothing.
    lowest = likely.max() - _ALMOST_NATS if len(embedding) >= FEWEST_FOR_LAYOUT else -np.inf
    order = np.lexsort([-shared, likely < lowest])
    q = candidates[order[0]].predict_proba(layout).astype(np.float32)
    q = q[:, np.argsort(-np.bincount(q.argmax(1), minlength=n_clusters), kind="stable")]
    finalists = tuple(zip(likely[order].tolist(), shared[order].tolist(), strict=True))
    return PseudoLabels(q, finalists, partitions[order])


def second_pseudo_labels(layout: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The mixture that maximising the likelihood of a layout (N, d) from soft assignments (N, K) leads to.

    Returns:
        Soft assignments, shape (N, K), float32; clusters keep their numbers.
    """
    if q.shape[1] == 1:
        return _one_cluster(len(layout))
    (fitted,) = fit_mixtures(layout, [mixture_of(layout, q)])
    return fitted.predict_proba(layout).astype(np.float32)


def _likely_mixtures(
    layout: np.ndarray, n_clusters: int, generator: np.random.Generator, progress: ProgressReport
) -> list[Mixture]:
    """The most likely of many starts, one for each mixture that they lead to."""
    total = _STARTS + _FINALISTS
    part = layout[generator.permutation(len(layout))[:_START_POINTS]]
    starts = mixtures_to_start_from(part, n_clusters, _STARTS, generator)
    fitted = fit_mixtures(part, starts, lambda what, done, _: progress(what, done, total))
    fitted.sort(key=lambda mixture: -mixture.log_likelihood)
    gaps = [math.inf, *(before.log_likelihood - after.log_likelihood for before, after in pairwise(fitted))]
    different = [mixture for mixture, gap in zip(fitted, gaps, strict=True) if gap > _SAME_NATS]
    return fit_mixtures(layout, different[:_FINALISTS], lambda what, done, _: progress(what, _STARTS + done, total))


def _one_cluster(n: int) -> np.ndarray:
    return np.ones((n, 1), np.float32)


def _majority(labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """The most frequent cluster in each row of (M, n) labels; the lowest of equals."""
    return np.stack([(labels == k).sum(1) for k in range(n_clusters)]).argmax(0)
