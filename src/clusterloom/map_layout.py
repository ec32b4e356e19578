"""A map of images: places on a plane, near each other where their features are.

UMAP's layout of all images, or of some landmarks where there are many, and the others placed among the nearest.
"""

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.recipe.points.components import principal_components
from clusterloom.recipe.points.layouts import umap_layout
from clusterloom.recipe.points.neighbours import nearest_neighbours
from clusterloom.training.randomness import seed_for

_LANDMARKS = 20_000
_LEAST_LANDMARKS = 20  # of a cluster, where it has as many images
_LAYOUT_NEIGHBOURS = 15
_MIN_DIST = 0.8  # room for thumbnails: with 0.1, right for finding clusters, they are specks on an empty map
_FEWEST_FOR_LAYOUT = 30  # fewer images have no neighbourhoods; their principal axes are the map
_NEIGHBOURS = 12  # landmarks that an image is placed among
_REACH = 4.0  # landmarks, if they lay on a square grid: neighbours further off lie in another part of the map
_CHUNK = 4096  # images placed at once
_LEAST_VARIANCE = 1e-12


def draw_map(features: np.ndarray, labels: np.ndarray, progress: ProgressReport = no_progress) -> np.ndarray:
    """Places of images on a plane, near each other where their features are.

    UMAP (McInnes, Healy and Melville, 2018) of at most 20,000 landmarks that are drawn evenly from all clusters; every
    other image is then placed among its nearest landmarks. Distances within a neighbourhood mean something; those
    between far parts of the map, and the sizes of gaps, mean little.

    Args:
        features: Shape (N, F).
        labels: Cluster of each image, shape (N,): only for drawing landmarks.
        progress: Told how far it is.

    Returns:
        Shape (N, 2), float32: x to the right and y upwards, the longer axis from 0 to 1, the shorter one to the same
        scale, in the middle.
    """
    rows = _landmarks(labels)
    others = np.setdiff1d(np.arange(len(features)), rows)
    position = np.empty((len(features), 2))
    position[rows] = layout = _layout(features[rows], progress)
    if len(others):
        position[others] = _placed(features[others], features[rows], layout, progress)
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


def _layout(features: np.ndarray, progress: ProgressReport) -> np.ndarray:
    """Landmarks on a plane, shape (L, 2)."""
    axes = _principal_axes(features)
    if len(features) < _FEWEST_FOR_LAYOUT or axes.std() < 1e-6:  # the second: all images are equal
        return axes
    neighbours = nearest_neighbours(features, _LAYOUT_NEIGHBOURS, progress=progress)
    progress("map", 0, 0)
    return umap_layout(features, *neighbours, 2, _MIN_DIST, seed_for(0, "layout", "map")).astype(np.float64)


def _principal_axes(features: np.ndarray) -> np.ndarray:
    """The first two principal components, shape (L, 2), each axis turned so that its longer end is positive."""
    plane = principal_components(features, 2).astype(np.float64)
    return plane * np.where(plane.max(0) < -plane.min(0), -1, 1)


def _placed(
    features: np.ndarray, landmarks: np.ndarray, layout: np.ndarray, progress: ProgressReport = no_progress
) -> np.ndarray:
    """Places for images among their nearest landmarks, shape (M, 2).

    Landmarks in another part of the map than the nearest one do not count: in the middle between two parts there
    would be bridges that nothing stands for.
    """
    neighbours, _ = nearest_neighbours(landmarks, _NEIGHBOURS, features, progress)
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
