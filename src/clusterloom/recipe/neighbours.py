"""Nearest neighbours: the exact search, the graph that they make, and layouts in which they lie together."""

import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackError
from torch import Tensor

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import products_by_onednn, threads_kept
from clusterloom.training.randomness import seed_for

FEWEST_FOR_LAYOUT = 200  # fewer points have no graph worth the name; they stay as they are
_DIMENSIONS = 10  # of the layout; 2, as for pictures, lets clusters lie on top of each other
_NEIGHBOURS = 20  # in the layout, each point itself among them
_EQUAL_SHARE = 0.05  # of points that have an equal one, from which on the layout has a start of our own
_GRAPH_NEIGHBOURS = 15
_EPOCHS = 100  # of the layout; UMAP itself takes 500 for up to 10,000 points and 200 for more
_REPELLED = 1  # points that push one off, for each that draws it; UMAP itself takes 5, which takes three times as long
_BLOCK_NUMBERS = 2**22  # distances in memory at once, 16 MiB: what the cache keeps until the smallest are found
_CHUNK = 4096  # points that are centred and squared at once
_PART = 20_000  # points in 64 bits at once
_GROUP = 16  # distances whose smallest one stands for them
_FEWEST_TO_GROUP = 4096


def nearest_neighbours(
    points: np.ndarray, k: int, queries: np.ndarray | None = None, progress: ProgressReport = no_progress
) -> tuple[np.ndarray, np.ndarray]:
    """The k points that are nearest to each query: exact, in blocks of matrix products, in constant memory.

    Args:
        points: Shape (N, D).
        k: At most N.
        queries: Shape (M, D); None asks for the neighbours of the points themselves, of which each is its own first.
        progress: Told after every block.

    Returns:
        Rows of the points, the nearest first, int64, and Euclidean distances, float32, shape (M, k) each.

    Example:
        >>> nearest_neighbours(np.array([[0.0], [1.0], [3.0]]), 2)[0].tolist()
        [[0, 1], [1, 0], [2, 1]]
    """
    centre = points.mean(0, dtype=np.float64)  # squares of small numbers cancel less
    reference = _centred(points, centre)
    asked = reference if queries is None else _centred(queries, centre)
    padded, squares = _padded(reference)
    rows = np.empty((len(asked), k), np.int64)
    distances = np.empty((len(asked), k), np.float32)
    step = max(1, _BLOCK_NUMBERS // len(reference))
    for start in range(0, len(asked), step):
        block = asked[start : start + step]
        with products_by_onednn():
            # Squared distances less the query's own square, which changes no order.
            partial = torch.addmm(squares, block, padded.T, alpha=-2)
        if queries is None:
            partial[torch.arange(len(block)), torch.arange(start, start + len(block))] = -torch.inf
        found = _smallest(partial, k)
        distance = torch.stack([(block - reference[column]).square().sum(1) for column in found.T], 1).sqrt()
        first = 0 if queries is not None else 1  # a point stays first among those that are equal to it
        order = distance[:, first:].argsort(dim=1, stable=True) + first
        order = torch.cat([torch.zeros(len(block), first, dtype=torch.int64), order], 1)
        rows[start : start + step] = found.gather(1, order).numpy()
        distances[start : start + step] = distance.gather(1, order).numpy()
        progress("neighbours", min(start + step, len(asked)), len(asked))
    return rows, distances


def _padded(points: Tensor) -> tuple[Tensor, Tensor]:
    """The points (N, D) and more up to whole groups, and all squared lengths: those of the added ones are infinite."""
    missing = -len(points) % _GROUP
    squares = torch.cat([some.square().sum(1) for some in torch.split(points, _CHUNK)])
    return F.pad(points, (0, 0, 0, missing)) if missing else points, F.pad(squares, (0, missing), value=torch.inf)


def _centred(points: np.ndarray, centre: np.ndarray) -> Tensor:
    """Points less their centre in float64, as float32; of 100,000 with 784 numbers float64 would be 627 MB."""
    result = np.empty(points.shape, np.float32)
    for start in range(0, len(points), _CHUNK):
        result[start : start + _CHUNK] = points[start : start + _CHUNK] - centre
    return torch.from_numpy(result)


def _smallest(numbers: Tensor, k: int) -> Tensor:
    """Columns of the k smallest numbers in each row of (B, N), the smallest first, N a multiple of 16; shape (B, k).

    They are in the k groups whose smallest numbers are the smallest, and to find those takes a fraction of the time.
    """
    n_groups = numbers.shape[1] // _GROUP
    if numbers.shape[1] < _FEWEST_TO_GROUP or n_groups < k:
        return numbers.topk(k, largest=False).indices
    groups = numbers.view(len(numbers), _GROUP, n_groups)  # one group is every n_groups-th number
    nearest = groups.amin(1).topk(k, largest=False).indices[:, None].expand(-1, _GROUP, -1)  # (B, 16, k)
    best = groups.gather(2, nearest).flatten(1).topk(k, largest=False).indices
    return (nearest + n_groups * torch.arange(_GROUP)[:, None]).flatten(1).gather(1, best)


def neighbour_graph(
    points: np.ndarray, k: int = _GRAPH_NEIGHBOURS, progress: ProgressReport = no_progress
) -> csr_array:
    """Who is among the k nearest neighbours of whom, in either direction.

    Args:
        points: Shape (N, D).
        k: Of so many others, or of all if there are fewer.
        progress: Told how far the search is.

    Returns:
        Ones, shape (N, N), symmetric.
    """
    near = incidence(nearest_neighbours(points, min(k, len(points) - 1) + 1, progress=progress)[0][:, 1:], len(points))
    return csr_array(near.maximum(near.T))


def incidence(neighbours: np.ndarray, n: int) -> csr_array:
    """Ones where a row of neighbours (M, k) names one of n points, shape (M, n)."""
    starts = neighbours.shape[1] * np.arange(len(neighbours) + 1)
    return csr_array((np.ones(neighbours.size), neighbours.ravel(), starts), shape=(len(neighbours), n))


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


def layout_of(embedding: np.ndarray, seed: int, progress: ProgressReport = no_progress) -> np.ndarray:
    """The first of `layouts_of`, shape (N, d)."""
    return layouts_of(embedding, seed, 1, progress)[0]


def layouts_of(embedding: np.ndarray, seed: int, n: int, progress: ProgressReport = no_progress) -> np.ndarray:
    """Places in 10 dimensions, where the groups of the embedding's neighbour graph are drawn together, several times.

    UMAP (McInnes, Healy and Melville, 2018) with 20 neighbours and no minimal distance; principal components, once,
    where there are fewer than 200 points.

    Args:
        embedding: Shape (N, D), Euclidean. Time grows with the square of N: 11 s for the neighbours of 70,000.
        seed: The same seed gives the same places, bit for bit, on one machine.
        n: How many layouts, from different starts.
        progress: Told how far the search for neighbours is.

    Returns:
        Shape (n, N, 10), or (1, N, D) for few points of fewer dimensions, float32.
    """
    if len(embedding) < FEWEST_FOR_LAYOUT:
        return principal_components(embedding, min(_DIMENSIONS, embedding.shape[1]))[None]
    neighbours = nearest_neighbours(embedding, _NEIGHBOURS, progress=progress)
    progress("layout", 0, 0)
    seeds = [seed_for(seed, "layout", epoch=number) for number in range(n)]
    return np.stack([umap_layout(embedding, *neighbours, _DIMENSIONS, 0.0, s, _EPOCHS, _REPELLED) for s in seeds])


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
    try:
        from fastumap import umap_project
    except ImportError:
        return _umap_learn_layout(embedding, neighbours, distances, dimensions, min_dist, seed, epochs, repelled)
    # With neighbours given, the points count for their number alone, and must have no fewer dimensions than the layout.
    stand_in = np.zeros((len(embedding), dimensions))
    known = (neighbours, distances.astype(np.float64))
    project = partial(
        umap_project,
        stand_in,
        dimensions,
        precomputed_knn=known,
        min_dist=min_dist,
        random_state=seed,
        n_epochs=epochs,
        negative_sample_rate=repelled,
    )
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


def _umap_learn_layout(
    embedding: np.ndarray,
    neighbours: np.ndarray,
    distances: np.ndarray,
    dimensions: int,
    min_dist: float,
    seed: int,
    epochs: int | None = None,
    repelled: int = 5,
) -> np.ndarray:
    from umap import UMAP

    with threads_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on its single thread, and on points that form islands
        reducer = UMAP(
            n_components=dimensions,
            n_neighbors=neighbours.shape[1],
            min_dist=min_dist,
            n_epochs=epochs,
            negative_sample_rate=repelled,
            random_state=seed % 2**32,
            n_jobs=1,
            precomputed_knn=(neighbours, distances),
            force_approximation_algorithm=True,  # without it neighbours of fewer than 4,096 points are not taken
        )
        return np.asarray(reducer.fit_transform(embedding), np.float32)


def principal_components(points: np.ndarray, n: int) -> np.ndarray:
    """The first n principal components of points (N, D), shape (N, n), float32."""
    centre = points.mean(0, dtype=np.float64)

    def parts() -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, len(points), _PART):
            rows = slice(start, start + _PART)
            yield rows, points[rows] - centre

    if len(points) > points.shape[1]:  # the same directions, from a matrix that does not grow with N
        directions = np.linalg.eigh(sum(part.T @ part for _, part in parts()))[1].T[::-1]
    else:
        directions = np.linalg.svd(points - centre, full_matrices=False)[2]
    components = np.zeros((len(points), n), np.float32)
    for rows, part in parts():
        components[rows, : len(directions)] = part @ directions[:n].T
    return components
