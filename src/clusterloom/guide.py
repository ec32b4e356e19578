"""The guide: from points to first clusters, by a neighbour graph, its low-dimensional layout and a Gaussian mixture.

It sees points alone, never images or labels, and knows no network. UMAP is imported when it is needed: its compiler
takes seconds to load.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors, kneighbors_graph

from clusterloom.device import threads_kept

MAX_POINTS = 100_000  # beyond so many, users of a guide give it a sample
_DIMENSIONS = 10  # of the layout; 2, as for pictures, lets clusters lie on top of each other
_NEIGHBOURS = 20
_STARTS = 24
_START_POINTS = 20_000  # points that a start is tried on
_FINALISTS = 12  # most likely starts that are carried on with all points
_GRAPH_POINTS = 12_000
_GRAPH_NEIGHBOURS = 15
_ALMOST_NATS = 0.1  # a mixture less likely by no more than that may be taken for what its clusters tell of views
_SAME_NATS = 1e-3  # starts whose log-likelihoods differ by less have found the same mixture
_TINY = 10 * _NEIGHBOURS  # fewer points have no graph worth the name; they are clustered as they are


@dataclass(frozen=True)
class Guide:
    """Soft assignments that a model can be started from.

    Attributes:
        q: Probability of every cluster for each point, shape (N, K), float32.
        finalists: For each mixture that was compared, its log-likelihood in the layout and the nats that two views
            share in it, the kept one first.
    """

    q: np.ndarray
    finalists: tuple[tuple[float, float], ...]


def make_guide(
    points: np.ndarray, places: np.ndarray, n_clusters: int, seed: int, views: tuple[np.ndarray, np.ndarray]
) -> Guide:
    """Cluster points by the density of their layout: a mixture of Gaussians with full covariances, from many starts.

    The best mixtures can be almost equally likely in the layout, which has lost the points' distances. So of those
    within 0.1 nats of the most likely one that one is kept whose clusters say most of an image whichever view of it is
    seen: a view belongs to the cluster of most of its 15 nearest points, and the mutual information of the clusters of
    an image's two views is to be the highest. It asks for clusters that are alike in both views, and for many of them;
    Ji, Henriques and Vedaldi (2019) train networks on it.

    Args:
        points: Shape (N, D).
        places: Their `layout`, shape (N, d).
        n_clusters: K, at most N.
        seed: Fixes everything; the same seed gives the same guide.
        views: Points of two views of each of some images, shape (M, D) each.

    Returns:
        The guide; its clusters are numbered by falling size.
    """
    if n_clusters == 1:
        return Guide(np.ones((len(points), 1), np.float32), ((0.0, 0.0),))
    candidates = _likely_mixtures(places, n_clusters, np.random.default_rng(seed))
    first, second = _nearest(points, views, seed)
    judged = []
    for mixture in candidates:
        labels = mixture.predict(places)
        shared = mutual_info_score(_majority(labels[first], n_clusters), _majority(labels[second], n_clusters))
        judged.append((mixture.lower_bound_, shared, mixture))
    # Full covariances fit a handful of points so well that their likelihood tells nothing.
    lowest = max(likely for likely, _, _ in judged) - _ALMOST_NATS if len(points) >= _TINY else -np.inf
    judged.sort(key=lambda candidate: (candidate[0] < lowest, -candidate[1]))
    q = judged[0][2].predict_proba(places).astype(np.float32)
    q = q[:, np.argsort(-np.bincount(q.argmax(1), minlength=n_clusters), kind="stable")]
    return Guide(q, tuple((float(likely), float(shared)) for likely, shared, _ in judged))


def refined_guide(places: np.ndarray, q: np.ndarray, seed: int) -> Guide:
    """The mixture that maximising the likelihood of places (N, d) from soft assignments (N, K) leads to.

    Returns:
        The guide; its clusters keep their numbers.
    """
    if q.shape[1] == 1:
        return Guide(np.ones((len(places), 1), np.float32), ())
    return Guide(_refined(places, q, seed).predict_proba(places).astype(np.float32), ())


def _majority(labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """The most frequent cluster in each row of (M, n) labels; the lowest of equals."""
    return np.stack([(labels == k).sum(1) for k in range(n_clusters)]).argmax(0)


def _nearest(points: np.ndarray, queries: tuple[np.ndarray, ...], seed: int) -> list[np.ndarray]:
    """Rows of the 15 points (N, D) that are nearest to each query (M, D), shape (M, 15).

    Beyond 12,000 points they are found by descent (Dong, Charikar and Li, 2011), which misses a few.
    """
    n_neighbours = min(_GRAPH_NEIGHBOURS, len(points))
    if len(points) <= _GRAPH_POINTS:
        exact = NearestNeighbors(n_neighbors=n_neighbours).fit(points)
        return [exact.kneighbors(some, return_distance=False) for some in queries]
    from pynndescent import NNDescent

    with threads_kept():
        index = NNDescent(points, n_neighbors=n_neighbours + 1, random_state=seed % 2**32, n_jobs=1)
        return [index.query(some, k=n_neighbours)[0] for some in queries]


def sampled_graph(points: np.ndarray, seed: int) -> tuple[np.ndarray, csr_array]:
    """Who is among the 15 nearest neighbours of whom, in either direction, among at most 12,000 of the points (N, D).

    Returns:
        Rows of these points, shape (M,), and the graph, ones, shape (M, M), symmetric.
    """
    rows = np.random.default_rng(seed).permutation(len(points))[:_GRAPH_POINTS]
    graph = kneighbors_graph(points[rows], min(_GRAPH_NEIGHBOURS, len(rows) - 1))
    return rows, csr_array(graph.maximum(graph.T))


def modularity(graph: csr_array, labels: np.ndarray) -> float:
    """Modularity of a division of a graph: Newman and Girvan (2004), formula (5).

    Args:
        graph: Symmetric, shape (N, N).
        labels: Clusters, shape (N,).

    Example:
        >>> two_pairs = csr_array(np.kron(np.eye(2), np.array([[0, 1], [1, 0]])))
        >>> modularity(two_pairs, np.array([0, 0, 1, 1])), modularity(two_pairs, np.array([0, 0, 0, 0]))
        (0.5, 0.0)
    """
    members = np.eye(labels.max() + 1)[labels]
    between = members.T @ (graph @ members)
    shares = between / between.sum()
    return float(np.trace(shares) - (shares.sum(1) ** 2).sum())


def layout(points: np.ndarray, seed: int) -> np.ndarray:
    """Places of points in 10 dimensions, where the groups of their neighbour graph are drawn together.

    UMAP (McInnes, Healy and Melville, 2018) with 20 neighbours and no minimal distance; principal components where
    there are fewer than 200 points.

    Args:
        points: Shape (N, D), Euclidean; N at most `MAX_POINTS`, or it takes long.
        seed: The same seed gives the same places.

    Returns:
        Shape (N, 10), or (N, D) for few points of fewer dimensions, float32.
    """
    if len(points) < _TINY:
        centred: np.ndarray = (points - points.mean(0)).astype(np.float32)
        return centred[:, :_DIMENSIONS] if points.shape[1] <= _DIMENSIONS else _principal(centred)
    from umap import UMAP

    with threads_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on its single thread, and on points that form islands
        reducer = UMAP(
            n_components=_DIMENSIONS, n_neighbors=_NEIGHBOURS, min_dist=0.0, random_state=seed % 2**32, n_jobs=1
        )
        return np.asarray(reducer.fit_transform(points), np.float32)


def _principal(centred: np.ndarray) -> np.ndarray:
    directions = np.linalg.svd(centred, full_matrices=False)[2]
    return np.asarray(centred @ directions[:_DIMENSIONS].T, np.float32)


def _mixture(n_clusters: int, seed: int, init: str = "kmeans", **start: np.ndarray) -> GaussianMixture:
    return GaussianMixture(
        n_clusters, covariance_type="full", init_params=init, random_state=seed, reg_covar=1e-4, max_iter=200, **start
    )


def _likely_mixtures(places: np.ndarray, n_clusters: int, generator: np.random.Generator) -> list[GaussianMixture]:
    """The most likely of many starts, one for each mixture that they lead to."""
    part = places[generator.permutation(len(places))[:_START_POINTS]]
    fitted = [fitted_mixture(part, n_clusters, start, generator) for start in range(_STARTS)]
    fitted.sort(key=lambda mixture: -mixture.lower_bound_)
    different = [m for i, m in enumerate(fitted) if i == 0 or fitted[i - 1].lower_bound_ - m.lower_bound_ > _SAME_NATS]
    return [
        _fit(
            _mixture(n_clusters, 0, weights_init=m.weights_, means_init=m.means_, precisions_init=m.precisions_), places
        )
        for m in different[:_FINALISTS]
    ]


def fitted_mixture(places: np.ndarray, n_clusters: int, start: int, generator: np.random.Generator) -> GaussianMixture:
    """A mixture of Gaussians from the start of that number, fitted to places (N, d)."""
    # Two kinds of starts: k-means finds the big groups, its seeding alone the odd ones.
    init = ("kmeans", "k-means++")[start % 2]
    return _fit(_mixture(n_clusters, int(generator.integers(2**31)), init), places)


def _refined(places: np.ndarray, q: np.ndarray, seed: int) -> GaussianMixture:
    """The mixture that maximising the likelihood from soft assignments leads to."""
    q, places = q.astype(np.float64), places.astype(np.float64)  # the precisions below are exact in no less
    weight = q.sum(0) + 1e-6
    means = (q.T @ places) / weight[:, None]
    eye = np.eye(places.shape[1])
    precisions = []
    for k, mean in enumerate(means):
        step = places - mean
        inverse = np.linalg.inv((q[:, k, None] * step).T @ step / weight[k] + 1e-3 * eye)
        precisions.append((inverse + inverse.T) / 2)
    return _fit(
        _mixture(
            len(means),
            seed % 2**32,
            weights_init=weight / weight.sum(),
            means_init=means,
            precisions_init=np.array(precisions),
        ),
        places,
    )


def _fit(mixture: GaussianMixture, places: np.ndarray) -> GaussianMixture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            return mixture.fit(places)
        except ValueError:  # rounding has made a covariance indefinite
            return mixture.fit(places.astype(np.float64))
