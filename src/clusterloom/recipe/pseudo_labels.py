"""Stage 2, pseudo-labels: clusters of an embedding, by Gaussian mixtures in its layout.

It sees embeddings alone, never images or labels, and knows no network.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import mutual_info_score
from sklearn.mixture import GaussianMixture

from clusterloom.console import ProgressReport, no_progress
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
    likely = np.array([mixture.lower_bound_ for mixture in candidates])
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
    q, layout = q.astype(np.float64), layout.astype(np.float64)  # the precisions below are exact in no less
    weight = q.sum(0) + 1e-6
    means = (q.T @ layout) / weight[:, None]
    precisions = []
    for k, mean in enumerate(means):
        step = layout - mean
        inverse = np.linalg.inv((q[:, k, None] * step).T @ step / weight[k] + 1e-3 * np.eye(layout.shape[1]))
        precisions.append((inverse + inverse.T) / 2)
    start = {"weights_init": weight / weight.sum(), "means_init": means, "precisions_init": np.array(precisions)}
    return _fit(_mixture(len(means), **start), layout).predict_proba(layout).astype(np.float32)


def fitted_mixture(layout: np.ndarray, n_clusters: int, start: int, generator: np.random.Generator) -> GaussianMixture:
    """A mixture of Gaussians from the start of that number, fitted to a layout (N, d)."""
    # Two kinds of starts: k-means finds the big groups, its seeding alone the odd ones.
    init = ("kmeans", "k-means++")[start % 2]
    return _fit(_mixture(n_clusters, random_state=int(generator.integers(2**31)), init_params=init), layout)


def _likely_mixtures(
    layout: np.ndarray, n_clusters: int, generator: np.random.Generator, progress: ProgressReport
) -> list[GaussianMixture]:
    """The most likely of many starts, one for each mixture that they lead to."""
    total = _STARTS + _FINALISTS
    part = layout[generator.permutation(len(layout))[:_START_POINTS]]
    fitted = []
    for start in range(_STARTS):
        fitted.append(fitted_mixture(part, n_clusters, start, generator))
        progress("mixtures", start + 1, total)
    fitted.sort(key=lambda mixture: -mixture.lower_bound_)
    different = [m for i, m in enumerate(fitted) if i == 0 or fitted[i - 1].lower_bound_ - m.lower_bound_ > _SAME_NATS]
    finalists = []
    for m in different[:_FINALISTS]:
        start_here = {"weights_init": m.weights_, "means_init": m.means_, "precisions_init": m.precisions_}
        finalists.append(_fit(_mixture(n_clusters, **start_here), layout))
        progress("mixtures", _STARTS + len(finalists), total)
    return finalists


def _one_cluster(n: int) -> np.ndarray:
    return np.ones((n, 1), np.float32)


def _majority(labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """The most frequent cluster in each row of (M, n) labels; the lowest of equals."""
    return np.stack([(labels == k).sum(1) for k in range(n_clusters)]).argmax(0)


def _mixture(n_clusters: int, **start: object) -> GaussianMixture:
    return GaussianMixture(
        n_clusters, covariance_type="full", reg_covar=1e-4, max_iter=200, **{"random_state": 0, **start}
    )


def _fit(mixture: GaussianMixture, layout: np.ndarray) -> GaussianMixture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            return mixture.fit(layout)
        except ValueError:  # rounding has made a covariance indefinite
            return mixture.fit(layout.astype(np.float64))
