"""Layouts: places in a few dimensions, in which what lies near each other in a space is drawn together."""

import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import threads_kept
from clusterloom.recipe.points.components import principal_components
from clusterloom.recipe.points.neighbours import nearest_neighbours
from clusterloom.training.randomness import seed_for

_FEWEST = 200  # fewer points have no graph worth the name; they stay as they are
_DIMENSIONS = 10  # 2, as for pictures, lets clusters lie on top of each other
_NEIGHBOURS = 20  # each point itself among them
_EQUAL_SHARE = 0.05  # of points that have an equal one, from which on the layout has a start of our own
_EPOCHS = 100  # UMAP itself takes 500 for up to 10,000 points and 200 for more
_REPELLED = 1  # points that push one off, for each that draws it; UMAP itself takes 5, which takes three times as long
_AT_ONCE = 4  # layouts at most; each has a graph of its own, of 100,000 points a quarter of a GB


def layout_of(embedding: np.ndarray, seed: int, progress: ProgressReport = no_progress) -> np.ndarray:
    """The first of the `layouts_of` one embedding, shape (N, d)."""
    layout: np.ndarray = layouts_of({"": embedding}, seed, 1, progress)[""][0]
    return layout


def layouts_of(
    spaces: Mapping[str, np.ndarray], seed: int, n: int, progress: ProgressReport = no_progress
) -> dict[str, np.ndarray]:
    """Places in 10 dimensions, where the groups of each space's neighbour graph are drawn together, several times.

    UMAP (McInnes, Healy and Melville, 2018) with 20 neighbours and no minimal distance; principal components, once,
    where there are fewer than 200 points. Several layouts are made at once where torch has several threads.

    Args:
        spaces: Points of each, by its name, shape (N, D), Euclidean. Time grows with the square of N: 11 s for the
            neighbours of 70,000.
        seed: The same seed gives the same places, bit for bit, on one machine, whatever else is made at the same time.
        n: How many layouts of each space, from different starts.
        progress: Told how far the search for neighbours is, and how many layouts are made.

    Returns:
        By the name of the space, shape (n, N, 10), of fewer than 200 points (1, N, min(10, D)), float32.
    """
    if len(next(iter(spaces.values()))) < _FEWEST:
        return {
            name: principal_components(points, min(_DIMENSIONS, points.shape[1]))[None]
            for name, points in spaces.items()
        }
    # All searches come first: each of them takes all threads for itself.
    neighbours = {name: nearest_neighbours(points, _NEIGHBOURS, progress=progress) for name, points in spaces.items()}
    starts = [(name, seed_for(seed, "layout", epoch=number)) for name in spaces for number in range(n)]

    def laid_out(start: tuple[str, int]) -> np.ndarray:
        name, layout_seed = start
        return umap_layout(spaces[name], *neighbours[name], _DIMENSIONS, 0.0, layout_seed, _EPOCHS, _REPELLED)

    layouts = []
    progress("layouts", 0, len(starts))
    with ThreadPoolExecutor(_workers()) as pool:
        for layout in pool.map(laid_out, starts):
            layouts.append(layout)
            progress("layouts", len(layouts), len(starts))
    return {name: np.stack(layouts[i * n : (i + 1) * n]) for i, name in enumerate(spaces)}


def _workers() -> int:
    """How many layouts are made at once. umap-learn must not be called by two threads; fastumap may."""
    return min(_AT_ONCE, torch.get_num_threads()) if find_spec("fastumap") else 1


def umap_layout(
    embedding: np.ndarray,
    neighbours: np.ndarray,
    distances: np.ndarray,
    dimensions: int,
    min_dist: float,
    seed: int,
    epochs: int | None = None,
    repelled: int = 5,
) -> np.ndarray:
    """UMAP's layout of a neighbour graph: by fastumap, or where there is none by umap-learn, which compiles for 24 s.

    Args:
        embedding: Shape (N, D).
        neighbours: Of each point, itself first, shape (N, k).
        distances: To them, shape (N, k).
        dimensions: Of the layout, d.
        min_dist: How close places may come.
        seed: Fixes the start and which points repel each other.
        epochs: How often edges pull; None takes UMAP's own number, 500 for up to 10,000 points and 200 for more.
        repelled: From how many points, drawn at random, each pull pushes one off.

    Returns:
        Shape (N, d), float32.
    """
    options = {"min_dist": min_dist, "n_epochs": epochs, "negative_sample_rate": repelled}
    try:
        from fastumap import umap_project
    except ImportError:
        return _by_umap_learn(embedding, (neighbours, distances), dimensions, seed, options)
    # With neighbours given, the points count for their number alone, and must have no fewer dimensions than the layout.
    stand_in = np.zeros((len(embedding), dimensions))
    known = (neighbours, distances.astype(np.float64))
    project = partial(umap_project, stand_in, dimensions, precomputed_knn=known, random_state=seed, **options)
    # It starts from eigenvectors. Of the symmetric graph of many equal points ARPACK finds others every time, or none.
    symmetric = (distances[:, -1] == 0).any() or (distances[:, 1] == 0).mean() > _EQUAL_SHARE
    try:
        places = project(init=_start(embedding, dimensions, seed) if symmetric else None)
    except ArpackError:
        places = project(init=_start(embedding, dimensions, seed))
    return places.astype(np.float32)


def _start(embedding: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    """Principal components (N, d) as far apart as UMAP's own starts are, and no two in one place."""
    components = principal_components(embedding, dimensions)
    places = 10 * components / max(float(np.abs(components).max()), 1e-6)
    noise: np.ndarray = np.random.default_rng(seed).normal(scale=1e-4, size=places.shape)
    return places + noise


def _by_umap_learn(
    embedding: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    dimensions: int,
    seed: int,
    options: Mapping[str, Any],
) -> np.ndarray:
    from umap import UMAP

    with threads_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on its single thread, and on points that form islands
        reducer = UMAP(
            n_components=dimensions,
            n_neighbors=known[0].shape[1],
            random_state=seed % 2**32,
            n_jobs=1,
            precomputed_knn=known,
            force_approximation_algorithm=True,  # without it neighbours of fewer than 4,096 points are not taken
            **options,
        )
        return np.asarray(reducer.fit_transform(embedding), np.float32)
