"""Nearest neighbours: the exact search, and the graph that they make."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import products_by_onednn

_GRAPH_NEIGHBOURS = 15
_HEARD = 15  # neighbours of an image, at most
_BLOCK_NUMBERS = 2**22  # distances in memory at once, 16 MiB: what the cache keeps until the smallest are found
_CHUNK = 4096  # points that are centred and squared at once
_GROUP = 16  # distances whose smallest one stands for them
_FEWEST_TO_GROUP = 4096


def within_a_cluster(n_images: int, n_clusters: int) -> int:
    """How many neighbours of an image are heard: 15, but at most half of a cluster of mean size, and at least one.

    Among more, what lies around a small cluster would outvote it.
    """
    return min(_HEARD, max(1, n_images // (2 * n_clusters)))


def mean_of_neighbours(values: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The mean of values (N, D) over the neighbours of each image, rows (N, n); shape (N, D), and no more in memory."""
    mean: np.ndarray = sum(values[column] for column in near.T) / near.shape[1]
    return mean


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
    return graph_of(nearest_neighbours(points, min(k, len(points) - 1) + 1, progress=progress)[0][:, 1:])


def graph_of(nearest: np.ndarray) -> csr_array:
    """Who is among the nearest of whom, rows (N, k), in either direction: ones, shape (N, N)."""
    near = incidence(nearest, len(nearest))
    return csr_array(near.maximum(near.T))


def incidence(neighbours: np.ndarray, n: int) -> csr_array:
    """Ones where a row of neighbours or other numbers (M, k) names one of n points, shape (M, n)."""
    starts = neighbours.shape[1] * np.arange(len(neighbours) + 1)
    return csr_array((np.ones(neighbours.size), neighbours.ravel(), starts), shape=(len(neighbours), n))


def islands_of(points: np.ndarray, k: int) -> np.ndarray:
    """Which points hang together by pairs that are each among the k nearest of the other.

    Args:
        points: Shape (N, D).
        k: Each point itself among them.

    Returns:
        Islands, numbered from 0, shape (N,).

    Example:
        >>> islands_of(np.array([[0.0], [1.0], [2.0], [5.0], [6.0], [7.0], [20.0]]), 3).tolist()
        [0, 0, 0, 1, 1, 1, 2]
    """
    near = incidence(nearest_neighbours(points, min(k, len(points)))[0], len(points))
    found: np.ndarray = connected_components(near.multiply(near.T))[1]
    return found


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
    return float(modularities(shares_between(graph, labels)))


def modularities(shares: np.ndarray) -> np.ndarray:
    """Modularity by what each two clusters have of the edges of graphs, shape (..., K, K); shape (...)."""
    within: np.ndarray = np.trace(shares, axis1=-2, axis2=-1)
    return within - np.square(shares.sum(-1)).sum(-1)


def shares_between(graph: csr_array, labels: np.ndarray) -> np.ndarray:
    """What each two clusters have of the edges of a graph, from either end: symmetric, shape (K, K), a sum of 1.

    Args:
        graph: Symmetric, shape (N, N).
        labels: Clusters, shape (N,).
    """
    k, edges = int(labels.max()) + 1, graph.tocoo()
    between = np.bincount(k * labels[edges.row] + labels[edges.col], edges.data, k * k).reshape(k, k)
    return between / between.sum()
