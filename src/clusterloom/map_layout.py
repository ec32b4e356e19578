"""A map of images: places on a plane, near each other where their features are.

t-SNE of some landmarks, whose number does not grow with the images, and every other image placed among the nearest.
"""

import numpy as np
from threadpoolctl import threadpool_limits

_LANDMARKS = 2500
_LEAST_LANDMARKS = 20  # of a cluster, where it has as many images
_PERPLEXITY = 25.0
_ITERATIONS = 500
_FEWEST_FOR_LAYOUT = 10  # fewer images have no neighbourhoods; their principal axes are the map
_NEIGHBOURS = 12
_REACH = 4.0  # landmarks, if they lay on a square grid: neighbours further off lie in another part of the map
_CHUNK = 4096  # images placed at once
_LEAST_VARIANCE = 1e-12


def draw_map(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Places of images on a plane, near each other where their features are.

    t-SNE (van der Maaten, "Visualizing Data using t-SNE", 2008) of some landmarks that are drawn evenly from all
    clusters; every other image is then placed among its nearest landmarks. Distances within a neighbourhood
    mean something; those between far parts of the map, and the sizes of gaps, mean little.

    Args:
        features: Shape (N, F).
        labels: Cluster of each image, shape (N,): only for drawing landmarks.

    Returns:
        Shape (N, 2), float32: x to the right and y upwards, the longer axis from 0 to 1, the shorter one to the same
        scale, in the middle.
    """
    rows = _landmarks(labels)
    others = np.setdiff1d(np.arange(len(features)), rows)
    position = np.empty((len(features), 2))
    # One thread: the sums of several come out in any order, and on a busy machine they spend their time waiting.
    with threadpool_limits(1):
        position[rows] = layout = _layout(features[rows])
        if len(others):
            position[others] = _placed(features[others], features[rows], layout)
    return _into_unit_square(position)


def _landmarks(labels: np.ndarray) -> np.ndarray:
    """Ascending rows of the landmarks: evenly spaced in each cluster, by its share but at least a few."""
    if len(labels) <= _LANDMARKS:
        return np.arange(len(labels))
    chosen = []
    for k in np.unique(labels):
        members = np.flatnonzero(labels == k)
        wanted = max(round(_LANDMARKS * len(members) / len(labels)), _LEAST_LANDMARKS)
        chosen.append(members[np.linspace(0, len(members) - 1, min(wanted, len(members))).astype(int)])
    return np.sort(np.concatenate(chosen))


def _layout(features: np.ndarray) -> np.ndarray:
    """Landmarks on a plane, shape (L, 2)."""
    start = _principal_axes(features)
    if len(features) < _FEWEST_FOR_LAYOUT or start.std() < 1e-6:  # the second: all images are equal
        return start
    from sklearn.manifold import TSNE  # takes a second to import

    # Small as t-SNE likes it, and with a trace of noise in case that the second axis is empty.
    start = 1e-4 * start / start[:, 0].std() + 1e-6 * np.random.default_rng(0).standard_normal(start.shape)
    tsne = TSNE(
        perplexity=min(_PERPLEXITY, (len(features) - 1) / 3),
        init=start.astype(np.float32),
        max_iter=_ITERATIONS,
        random_state=0,
    )
    return tsne.fit_transform(features).astype(np.float64)


def _principal_axes(features: np.ndarray) -> np.ndarray:
    """The first two principal components, shape (L, 2), each axis turned so that its longer end is positive."""
    centred = features - features.mean(0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    plane = np.zeros((len(features), 2))
    plane[:, : axes.shape[1]] = centred @ axes
    return plane * np.where(plane.max(0) < -plane.min(0), -1, 1)


def _placed(features: np.ndarray, landmarks: np.ndarray, layout: np.ndarray) -> np.ndarray:
    """Places for images among their nearest landmarks, shape (M, 2).

    Landmarks in another part of the map than the nearest one do not count: in the middle between two parts there
    would be bridges that nothing stands for.
    """
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=_NEIGHBOURS, algorithm="brute").fit(landmarks)
    neighbours = finder.kneighbors(features, return_distance=False)
    reach = _REACH * float(np.ptp(layout, axis=0).max()) / len(layout) ** 0.5
    position = np.empty((len(features), 2))
    for start in range(0, len(features), _CHUNK):
        part = slice(start, start + _CHUNK)
        places = layout[neighbours[part]]
        far = np.linalg.norm(places - places[:, :1], axis=2) > reach
        weights = _affine_weights(landmarks[neighbours[part]] - features[part, None], far)
        position[part] = np.einsum("nk,nkd->nd", weights, places)
    return position


def _affine_weights(offsets: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Weights with sum 1 that rebuild an image from its neighbours, as in locally linear embedding, shape (M, k).

    Args:
        offsets: From the image to each neighbour, shape (M, k, F).
        far: Neighbours that get next to no weight, shape (M, k).
    """
    gram = np.einsum("nkd,nld->nkl", offsets, offsets, optimize=True).astype(np.float64)
    trace = np.trace(gram, axis1=1, axis2=2)[:, None] + _LEAST_VARIANCE
    diagonal = np.arange(gram.shape[1])
    gram[:, diagonal, diagonal] += trace * np.where(far, 1e4, 0.05)
    weights = np.linalg.solve(gram, np.ones((*gram.shape[:2], 1)))[..., 0]
    return weights / weights.sum(1, keepdims=True)


def _into_unit_square(position: np.ndarray) -> np.ndarray:
    low, high = position.min(0), position.max(0)
    longer = float((high - low).max())
    scaled = (position - (low + high) / 2) / (longer if longer > 0 else 1) + 0.5
    return np.clip(scaled, 0, 1).astype(np.float32)
