"""Exact neighbours, and their graph."""

import numpy as np
import pytest
import torch
from recipe_helpers import blobs
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors, kneighbors_graph

from clusterloom.recipe.points import neighbours as module
from clusterloom.recipe.points.neighbours import _smallest, modularity, nearest_neighbours, neighbour_graph


@pytest.mark.parametrize(("block", "fewest_to_group"), [(1000, 4096), (2**24, 4096), (2**24, 1)])
def test_neighbours_are_those_of_scikit_learn(monkeypatch, block, fewest_to_group):
    monkeypatch.setattr(module, "_BLOCK_NUMBERS", block)
    monkeypatch.setattr(module, "_FEWEST_TO_GROUP", fewest_to_group)
    points = 50 + np.random.default_rng(0).standard_normal((395, 16)).astype(np.float32)
    queries = 50 + np.random.default_rng(1).standard_normal((70, 16)).astype(np.float32)
    exact = NearestNeighbors(n_neighbors=12, algorithm="brute").fit(points.astype(np.float64))
    told = []
    for asked, given in ((points, None), (queries, queries)):
        rows, distances = nearest_neighbours(points, 12, given, progress=lambda *report: told.append(report))
        expected_distances, expected_rows = exact.kneighbors(asked)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_allclose(distances, expected_distances, atol=1e-5)
    assert {what for what, _, _ in told} == {"neighbours"}
    assert told[-1][1:] == (70, 70)
    assert len(told) == (2 if block > 1000 else 233)


def test_every_point_is_its_own_first_neighbour_even_among_equal_ones():
    points = np.repeat(np.random.default_rng(0).standard_normal((5, 3)), 20, axis=0).astype(np.float32)
    rows, distances = nearest_neighbours(points, 20)
    assert rows[:, 0].tolist() == list(range(100))
    assert (np.sort(rows, axis=1) == 20 * (np.arange(100) // 20)[:, None] + np.arange(20)).all()
    assert distances.max() < 1e-5
    assert nearest_neighbours(points[:1], 1)[0].tolist() == [[0]]


def test_the_smallest_numbers_are_found_by_groups_as_without():
    numbers = torch.rand(30, 16 * 300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_smallest(numbers, 20), numbers.topk(20, largest=False).indices)
    assert torch.equal(_smallest(numbers, 301), numbers.topk(301, largest=False).indices)  # more than groups


def test_the_graph_joins_neighbours_in_either_direction():
    points, _ = blobs(300, 6)
    directed = kneighbors_graph(points, 15)
    assert (neighbour_graph(points) != directed.maximum(directed.T)).nnz == 0
    assert neighbour_graph(points[:5]).toarray().tolist() == (1 - np.eye(5)).tolist()  # fewer than are asked for


def test_modularity_of_hand_worked_graphs():
    path = csr_array(np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]]))
    # Two of three edges inside; each half has half of the ends: 2/3 - 1/4 - 1/4.
    assert modularity(path, np.array([0, 0, 1, 1])) == pytest.approx(2 / 3 - 1 / 2)
    assert modularity(path, np.arange(4)) == pytest.approx(-(1 + 4 + 4 + 1) / 36)
    assert modularity(path, np.zeros(4, int)) == 0
