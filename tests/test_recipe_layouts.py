"""Layouts that repeat, and leave everything else as it was."""

import random
import sys

import fastumap
import numpy as np
import pytest
import torch
from recipe_helpers import blobs
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence
from threadpoolctl import threadpool_info

from clusterloom.recipe.points import layouts as module
from clusterloom.recipe.points.layouts import layout_of, layouts_of
from clusterloom.recipe.points.neighbours import nearest_neighbours


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


@pytest.mark.parametrize("workers", [1, 3])
def test_layouts_are_the_same_however_many_are_made_at_once(monkeypatch, workers):
    points = blobs(260)[0]
    spaces, told = {"these": points, "those": points[:, ::-1] ** 3}, []
    monkeypatch.setattr(module, "_workers", lambda: workers)
    found = layouts_of(spaces, 0, 2, lambda *report: told.append(report))
    assert list(found) == ["these", "those"]
    for name, space in spaces.items():
        assert found[name].shape == (2, 260, 10)
        assert not np.array_equal(*found[name])
        np.testing.assert_array_equal(found[name][0], layout_of(space, 0))
    assert told == [("neighbours", 260, 260)] * 2 + [("layouts", done, 4) for done in range(5)]


def test_umap_learn_is_called_by_one_thread_at_a_time(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert module._workers() == 3
    monkeypatch.setitem(sys.modules, "fastumap", None)  # as if it were not installed
    assert module._workers() == 1
