"""Whether guides find what there is, of any size, and the same on any machine."""

import numpy as np
import pytest
import torch
from recipe_helpers import blobs, rng
from sklearn.metrics import adjusted_rand_score

from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe.pseudo_labels import guides as module
from clusterloom.recipe.pseudo_labels.guides import guides_in


@pytest.mark.parametrize("n", [60, 300])  # k-means for a few points, mixtures for more
def test_guides_find_blobs_with_as_many_clusters_as_are_wanted_and_more(n):
    points, labels = blobs(n)
    guides = guides_in({"points": points[None]}, 4, rng())
    coarse = [g for g in guides if g.coarse]
    assert (len(guides), len(coarse)) == (18, 6)
    assert {g.labels.max() + 1 for g in guides} == {4, 6, 8}
    assert max(clustering_accuracy_score(labels, g.labels) for g in coarse) > 0.98
    again = guides_in({"points": points[None]}, 4, rng())
    assert all(np.array_equal(one.labels, other.labels) for one, other in zip(guides, again, strict=True))


@pytest.mark.parametrize(("n", "starts"), [(50, 6), (3000, 4), (7000, 2)])
def test_of_few_points_there_are_more_guides(n, starts):
    points = rng().standard_normal((n, 2)).astype(np.float32)
    assert len(guides_in({"points": points[None]}, 2, rng())) == 3 * starts


@pytest.mark.parametrize(("n", "n_clusters"), [(1, 1), (3, 3), (3, 2), (20, 20), (20, 7)])
def test_of_a_handful_of_points_guides_ask_for_no_more_clusters_than_there_are(n, n_clusters):
    points = rng().standard_normal((1, n, 5)).astype(np.float32)
    guides = guides_in({"points": points}, n_clusters, rng())
    assert all(g.labels.shape == (n,) and g.labels.min() >= 0 and g.labels.max() < n for g in guides)
    assert any(g.coarse for g in guides)


def test_a_mixture_that_is_fitted_to_some_points_places_all_of_them(monkeypatch):
    monkeypatch.setattr(module, "FITTED_POINTS", 200)
    points, labels = blobs(1000)
    guides = guides_in({"points": points[None]}, 4, rng())
    assert all(g.labels.shape == (1000,) for g in guides)
    assert max(clustering_accuracy_score(labels, g.labels) for g in guides if g.coarse) > 0.98


def test_guides_of_all_layouts_know_their_space_and_tell_how_far_they_are():
    points, told = blobs(60)[0], []
    layouts = {"one": np.stack([points, points]), "other": points[None]}
    guides = guides_in(layouts, 4, rng(), lambda *report: told.append(report))
    assert [g.space for g in guides] == ["one"] * 36 + ["other"] * 18
    assert told == [("guides", done, 9) for done in range(10)]


def test_guides_are_the_same_with_any_number_of_threads():
    layouts, before = {"points": np.stack([blobs(300)[0], blobs(300)[0][::-1]])}, torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(guides_in(layouts, 4, rng()))
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(one.labels, other.labels) for one, other in zip(*found, strict=True))


def test_where_kinds_of_any_size_lie_apart_guides_know_them_by_density():
    kinds = np.repeat(np.arange(4), [400, 60, 30, 30])
    points = (12 * np.eye(4)[kinds] + rng().standard_normal((520, 4))).astype(np.float32)
    spread = rng().uniform(size=(520, 4)).astype(np.float32)
    guides = guides_in({"apart": points[None], "spread": spread[None]}, 4, rng())
    known = [g for g in guides if g.apart is not None]
    assert [g.space for g in known] == ["apart"] * 6
    assert all(g.coarse and adjusted_rand_score(kinds, g.apart) == 1 for g in known)
