"""Exact neighbours, their graph, and layouts that repeat and leave everything else as it was."""

import random
import sys

import fastumap
import numpy as np
import pytest
import torch
from recipe_helpers import blobs
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence
from sklearn.neighbors import NearestNeighbors, kneighbors_graph
from threadpoolctl import threadpool_info

from clusterloom.recipe import neighbours as module
from clusterloom.recipe.neighbours import _smallest, layout_of, modularity, nearest_neighbours, neighbour_graph


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


@pytest.mark.parametrize("library", ["fastumap", "umap-learn"])
def test_layouts_draw_groups_together_repeat_and_leave_threads_and_generators(monkeypatch, library):
    if library == "umap-learn":
        monkeypatch.setitem(sys.modules, "fastumap", None)  # as if it were not installed
    else:
        pytest.importorskip("fastumap")
        monkeypatch.setitem(sys.modules, "umap", None)
    points, labels = blobs(260)
    state = [np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist(), random.getstate()]
    threads = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    layout = layout_of(points, 0)
    assert state == [np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist(), random.getstate()]
    assert threads == (torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()][: len(threads[1])])
    assert layout.shape == (260, 10)
    assert layout.dtype == np.float32
    nearest = nearest_neighbours(layout, 10)[0]
    assert (labels[nearest] == labels[:, None]).all()
    np.testing.assert_array_equal(layout, layout_of(points, 0))
    assert not np.array_equal(layout, layout_of(points, 1))


def test_embeddings_of_few_dimensions_and_few_points_have_layouts():
    flat = np.random.default_rng(0).standard_normal((250, 2)).astype(np.float32)
    assert layout_of(flat, 0).shape == (250, 10)
    assert layout_of(flat[:50], 0).shape == (50, 2)
    few = np.random.default_rng(0).standard_normal((6, 30)).astype(np.float32)
    layout = layout_of(few, 0)
    assert layout.shape == (6, 10)
    distances = np.linalg.norm(few[:, None] - few, axis=2)  # principal components of so few points lose nothing
    np.testing.assert_allclose(np.linalg.norm(layout[:, None] - layout, axis=2), distances, atol=1e-4)


@pytest.mark.parametrize("n", [200, 240])
def test_points_that_are_all_equal_have_a_layout(n):
    assert np.isfinite(layout_of(np.ones((n, 4), np.float32), 0)).all()


@pytest.mark.parametrize(("n_kinds", "together"), [(8, 1), (24, 0.6)])  # of ten equal points half the neighbours differ
def test_many_equal_points_have_a_layout_that_repeats_and_keeps_them_together(n_kinds, together):
    """Of their symmetric graphs the eigenvectors that a layout starts from are others every time, or not found."""
    points, kinds = 5 * np.random.default_rng(0).standard_normal((n_kinds, 6)), np.arange(240) % n_kinds
    layout = layout_of(points[kinds].astype(np.float32), 0)
    assert np.isfinite(layout).all()
    assert np.array_equal(layout, layout_of(points[kinds].astype(np.float32), 0))
    middles = np.stack([layout[kinds == k].mean(0) for k in range(n_kinds)])
    nearest = np.linalg.norm(layout[:, None] - middles, axis=2).argmin(1)
    assert (nearest == kinds).mean() >= together


@pytest.mark.parametrize("error", [ArpackError(3), ArpackNoConvergence("none found", np.empty(0), np.empty(0))])
def test_a_layout_whose_eigenvectors_are_not_found_starts_from_principal_components(monkeypatch, error):
    starts, project = [], fastumap.umap_project

    def fails_without_start(*arguments, init=None, **options):
        starts.append(init)
        if init is None:
            raise error
        return project(*arguments, init=init, **options)

    monkeypatch.setattr(fastumap, "umap_project", fails_without_start)
    points, labels = blobs(260)
    layout = layout_of(points, 0)
    assert [start is None for start in starts] == [True, False]
    middles = np.stack([layout[labels == k].mean(0) for k in range(4)])
    assert np.array_equal(np.linalg.norm(layout[:, None] - middles, axis=2).argmin(1), labels)


@pytest.mark.parametrize(("n", "part"), [(50, 7), (50, 50), (4, 50)])
def test_principal_components_are_those_of_the_whole_however_many_points_are_in_memory(monkeypatch, n, part):
    monkeypatch.setattr(module, "_PART", part)
    points = (np.random.default_rng(0).standard_normal((n, 6)) * np.arange(1, 7)).astype(np.float32)
    found = module.principal_components(points, 3)
    left, sizes, _ = np.linalg.svd(points.astype(float) - points.mean(0, dtype=float), full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(left * sizes)[:, :3], rtol=1e-4, atol=1e-5)


def test_progress_tells_of_neighbours_and_layout():
    told = []
    layout_of(blobs(260)[0], 0, lambda *report: told.append(report))
    assert told == [("neighbours", 260, 260), ("layout", 0, 0)]
